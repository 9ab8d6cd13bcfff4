# Install rules and the package configuration for find_package(lgreco).

# A Python wheel holds the modules alone; its build sets SKBUILD.
if(SKBUILD)
  return()
endif()

include(CMakePackageConfigHelpers)
set(LGRECO_CONFIG_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/lgreco)

install(DIRECTORY include/lgreco DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(TARGETS lgreco EXPORT lgreco-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT lgreco-targets NAMESPACE lgreco:: DESTINATION ${LGRECO_CONFIG_DIR})

configure_package_config_file(
  cmake/lgreco-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/lgreco-config.cmake
  INSTALL_DESTINATION ${LGRECO_CONFIG_DIR})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/lgreco-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lgreco-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/lgreco-config-version.cmake
        DESTINATION ${LGRECO_CONFIG_DIR})
