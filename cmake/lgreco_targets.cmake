# Helpers that keep the CMake file of a folder to a list of its files.

if(LGRECO_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()
if(LGRECO_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()

# The compile flags of all code of this project.
# -ffp-contract=off: a*b+c must give the same bits on every CPU, with or without FMA.
# -Wno-missing-field-initializers: designated initializers leave defaults out on purpose.
# -Wno-restrict: GCC 12 warns about std::string's own operator+ (GCC bug 105651).
function(lgreco_flags target)
  target_compile_options(
    ${target}
    PRIVATE -Wall -Wextra -Wno-missing-field-initializers -ffp-contract=off
            $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict> $<$<BOOL:${LGRECO_WERROR}>:-Werror>)
endfunction()

# lgreco_module(NAME SOURCES ... [TESTS ...] [BENCHMARKS ...])
# Adds the sources of one folder to the library `lgreco`, one test binary `NAME_test` and one
# benchmark binary `NAME_benchmark` of all the named files.
function(lgreco_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;TESTS;BENCHMARKS" ${ARGN})
  list(TRANSFORM ARG_SOURCES PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
  target_sources(lgreco PRIVATE ${ARG_SOURCES})
  if(LGRECO_TESTS AND ARG_TESTS)
    add_executable(${name}_test ${ARG_TESTS})
    target_include_directories(${name}_test PRIVATE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name}_test PRIVATE lgreco GTest::gtest_main)
    lgreco_flags(${name}_test)
    gtest_discover_tests(${name}_test TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60)
  endif()
  if(LGRECO_BENCHMARKS AND ARG_BENCHMARKS)
    add_executable(${name}_benchmark ${ARG_BENCHMARKS})
    target_include_directories(${name}_benchmark PRIVATE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name}_benchmark PRIVATE lgreco benchmark::benchmark_main)
    lgreco_flags(${name}_benchmark)
  endif()
endfunction()

# add_mpi_test(NAME COMMAND ...): a test that starts MPI processes, four at most, on any machine and
# as any user. Open MPI's switches are given as variables, which other MPIs ignore.
function(add_mpi_test name)
  add_test(NAME ${name} COMMAND ${ARGN})
  set_tests_properties(
    ${name}
    PROPERTIES
      PROCESSORS 2
      ENVIRONMENT
      "MPIEXEC_TIMEOUT=100;OMPI_MCA_rmaps_base_oversubscribe=1;OMPI_MCA_hwloc_base_binding_policy=none;OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
  )
endfunction()
