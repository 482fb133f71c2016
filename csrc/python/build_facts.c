#include "python/build_facts.h"

#include <openssl/crypto.h>
#include <openssl/opensslv.h>
#include <zlib.h>

/* What protocol/mask.c's vectors of 16 bytes are on this processor. It is the
 * compiler that has chosen them; those of utf8.c are chosen as it runs. */
#if defined(__AVX__)
#define SIMD "AVX"
#elif defined(__SSE2__)
#define SIMD "SSE2"
#elif defined(__ARM_NEON)
#define SIMD "NEON"
#elif defined(__ALTIVEC__)
#define SIMD "AltiVec"
#elif defined(__s390x__) && defined(__VEC__)
#define SIMD "vector facility"
#else
#define SIMD "none"
#endif

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

/* As protocol/utf8.c chooses. */
static const char *
utf8_simd(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("ssse3")) {
        return "SSSE3";
    }
#endif
    return "none";
}

const char tws_build_facts_doc[] = PyDoc_STR(
    "build_facts($module, /)\n--\n\n"
    "What this build is made of and runs on, as a dict of texts:\n\n"
    "openssl        the OpenSSL that is loaded, with its date\n"
    "openssl_built  the one whose headers it was compiled with\n"
    "zlib           the version of zlib that is loaded\n"
    "zlib_built     the one whose headers it was compiled with\n"
    "simd           vectors that masking and the check for ASCII use, or\n"
    "               'none'; the compiler has chosen them\n"
    "simd_utf8      those that the check for UTF-8 uses, or 'none'; this\n"
    "               processor has chosen them\n"
    "compiler       its name and version\n\n"
    "The dict is a new one each time. Any thread may call it.");

PyObject *
tws_build_facts(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return Py_BuildValue("{ssssssssssssss}", "openssl",
                         OpenSSL_version(OPENSSL_VERSION), "openssl_built",
                         OPENSSL_VERSION_TEXT, "zlib", zlibVersion(),
                         "zlib_built", ZLIB_VERSION, "simd", SIMD, "simd_utf8",
                         utf8_simd(), "compiler", COMPILER);
}
