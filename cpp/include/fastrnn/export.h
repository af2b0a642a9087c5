/* FASTRNN_API: what a shared libfastrnn shows. CMake and pkg-config define FASTRNN_SHARED where the library is one. */
#ifndef FASTRNN_EXPORT_H
#define FASTRNN_EXPORT_H

#if defined(FASTRNN_SHARED) && defined(_WIN32)
#if defined(FASTRNN_BUILDING)
#define FASTRNN_API __declspec(dllexport)
#else
#define FASTRNN_API __declspec(dllimport)
#endif
#elif defined(FASTRNN_SHARED) && defined(__GNUC__)
#define FASTRNN_API __attribute__((visibility("default")))
#else
#define FASTRNN_API
#endif

#endif
