# cmake --install: headers, the library, find_package(fastrnn CONFIG) and pkg-config.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(FASTRNN_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/fastrnn)

install(TARGETS fastrnn EXPORT fastrnn
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/cpp/include/fastrnn DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

# In a project without C++ the config file sets what follows from these itself: see fastrnnConfig.cmake.in.
install(EXPORT fastrnn NAMESPACE fastrnn:: FILE fastrnnTargets.cmake DESTINATION ${FASTRNN_CMAKE_DIR})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/fastrnnConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/fastrnnConfig.cmake INSTALL_DESTINATION ${FASTRNN_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/fastrnnConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/fastrnnConfig.cmake ${PROJECT_BINARY_DIR}/fastrnnConfigVersion.cmake
        DESTINATION ${FASTRNN_CMAKE_DIR})

# pkg-config: paths relative to the file, so that the installed tree may be moved. A static library hands its own needs
# on to whoever links it, and there is but one kind installed: hence Libs rather than Libs.private.
file(RELATIVE_PATH FASTRNN_PC_PREFIX "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" FASTRNN_PC_PREFIX "${FASTRNN_PC_PREFIX}")
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(FASTRNN_PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
  set(FASTRNN_PC_LIBDIR "${CMAKE_INSTALL_FULL_LIBDIR}")
  set(FASTRNN_PC_INCLUDEDIR "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
else()
  set(FASTRNN_PC_PREFIX "\${pcfiledir}/${FASTRNN_PC_PREFIX}")
  set(FASTRNN_PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
  set(FASTRNN_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
set(FASTRNN_PC_LIBS "")
set(FASTRNN_PC_CFLAGS "")
if(BUILD_SHARED_LIBS)
  set(FASTRNN_PC_CFLAGS " -DFASTRNN_SHARED=1")
else()
  foreach(library IN LISTS CMAKE_CXX_IMPLICIT_LINK_LIBRARIES)
    if(library MATCHES "^(stdc\\+\\+|c\\+\\+|c\\+\\+abi)$")
      string(APPEND FASTRNN_PC_LIBS " -l${library}")
    endif()
  endforeach()
  string(APPEND FASTRNN_PC_LIBS " -lm -pthread")
  if(FASTRNN_OPENMP)
    string(APPEND FASTRNN_PC_LIBS " ${OpenMP_CXX_FLAGS}")
  endif()
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/fastrnn.pc.in ${PROJECT_BINARY_DIR}/fastrnn.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/fastrnn.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
