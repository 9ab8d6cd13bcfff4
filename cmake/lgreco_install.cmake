# Install rules and the package configuration for find_package(lgreco). Python wheels take only the
# components that scikit-build-core asks for, so these are skipped there.

if(LGRECO_PYTHON)
  return()
endif()

include(CMakePackageConfigHelpers)
set(LGRECO_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/lgreco)

install(TARGETS lgreco EXPORT lgreco_targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/lgreco DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(LGRECO_MPI)
  install(TARGETS lgreco_mpi EXPORT lgreco_mpi_targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY adaptors/mpi/include/lgreco DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT lgreco_mpi_targets NAMESPACE lgreco:: DESTINATION ${LGRECO_CMAKE_DIR})
endif()
install(EXPORT lgreco_targets NAMESPACE lgreco:: DESTINATION ${LGRECO_CMAKE_DIR})

configure_package_config_file(cmake/lgreco-config.cmake.in lgreco-config.cmake
                              INSTALL_DESTINATION ${LGRECO_CMAKE_DIR})
write_basic_package_version_file(lgreco-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lgreco-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/lgreco-config-version.cmake DESTINATION ${LGRECO_CMAKE_DIR})
