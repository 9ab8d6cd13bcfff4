# What the core is built with: Highway (SIMD), Eigen (small eigenproblems), xxHash (checksums). Each is
# taken from its own CMake package, or else from its header in the usual places.

# lgreco_find_dependency(RESULT PACKAGE TARGET HEADER): sets RESULT to the target, or to the folder of
# the header.
macro(lgreco_find_dependency result package target header)
  find_package(${package} CONFIG QUIET GLOBAL)
  if(TARGET ${target})
    set(${result} ${target})
  else()
    find_path(${result}_INCLUDE ${header} PATH_SUFFIXES eigen3)
    mark_as_advanced(${result}_INCLUDE)
    set(${result} ${${result}_INCLUDE})
  endif()
endmacro()

lgreco_find_dependency(LGRECO_HIGHWAY hwy hwy::hwy hwy/highway.h)
lgreco_find_dependency(LGRECO_EIGEN Eigen3 Eigen3::Eigen Eigen/Dense)
lgreco_find_dependency(LGRECO_XXHASH xxHash xxHash::xxhash xxhash.h)
if(TARGET hwy::hwy)
  set(LGRECO_HIGHWAY_LIBRARY hwy::hwy)
else()
  find_library(LGRECO_HIGHWAY_LIBRARY hwy)
  mark_as_advanced(LGRECO_HIGHWAY_LIBRARY)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  lgreco_dependencies
  REQUIRED_VARS LGRECO_HIGHWAY LGRECO_HIGHWAY_LIBRARY LGRECO_EIGEN LGRECO_XXHASH
  REASON_FAILURE_MESSAGE
    "On Debian or Ubuntu: apt-get install libhwy-dev libeigen3-dev libxxhash-dev. Elsewhere: install Highway, Eigen 3 and xxHash from packages or sources, and name their prefix in CMAKE_PREFIX_PATH."
)

if(lgreco_dependencies_FOUND AND NOT TARGET lgreco_dependencies)
  add_library(lgreco_dependencies INTERFACE)
  target_compile_definitions(lgreco_dependencies INTERFACE XXH_INLINE_ALL) # header only
  target_link_libraries(lgreco_dependencies INTERFACE ${LGRECO_HIGHWAY_LIBRARY})
  foreach(found ${LGRECO_HIGHWAY} ${LGRECO_EIGEN} ${LGRECO_XXHASH})
    if(TARGET ${found}) # the headers alone, of xxHash, too
      set(found $<TARGET_PROPERTY:${found},INTERFACE_INCLUDE_DIRECTORIES>)
    endif()
    target_include_directories(lgreco_dependencies SYSTEM INTERFACE ${found})
  endforeach()
endif()
