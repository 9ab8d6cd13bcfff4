# The system packages of the core: Highway (SIMD), Eigen (small eigenproblems), xxHash (checksums).

find_path(LGRECO_HIGHWAY_INCLUDE hwy/highway.h)
find_library(LGRECO_HIGHWAY_LIBRARY hwy)
find_path(LGRECO_EIGEN_INCLUDE Eigen/Dense PATH_SUFFIXES eigen3)
find_path(LGRECO_XXHASH_INCLUDE xxhash.h)
mark_as_advanced(LGRECO_HIGHWAY_INCLUDE LGRECO_HIGHWAY_LIBRARY LGRECO_EIGEN_INCLUDE
                 LGRECO_XXHASH_INCLUDE)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  lgreco_dependencies
  REQUIRED_VARS LGRECO_HIGHWAY_INCLUDE LGRECO_HIGHWAY_LIBRARY LGRECO_EIGEN_INCLUDE
                LGRECO_XXHASH_INCLUDE
  REASON_FAILURE_MESSAGE
    "On Debian or Ubuntu: apt-get install libhwy-dev libeigen3-dev libxxhash-dev")

if(lgreco_dependencies_FOUND AND NOT TARGET lgreco_dependencies)
  add_library(lgreco_dependencies INTERFACE)
  target_include_directories(
    lgreco_dependencies SYSTEM
    INTERFACE ${LGRECO_HIGHWAY_INCLUDE} ${LGRECO_EIGEN_INCLUDE} ${LGRECO_XXHASH_INCLUDE})
  target_compile_definitions(lgreco_dependencies INTERFACE XXH_INLINE_ALL) # header only
  target_link_libraries(lgreco_dependencies INTERFACE ${LGRECO_HIGHWAY_LIBRARY})
endif()
