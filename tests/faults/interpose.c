/* Makes single calls of twspy's extension module fail. The module's own table
 * of the functions that it calls (its GOT) is pointed at the wrappers below,
 * so that neither the interpreter nor another library notices, and nothing
 * has to be loaded before the program: the injector of the Python tests loads
 * this by ctypes.
 *
 * A place is a function and the instruction that follows its call in the
 * module. Recording lists the places that a scenario passes through; arming
 * makes the call at one of them fail, the nth time. A storm has many calls of
 * the system come back early instead. ELF only. */
#define _GNU_SOURCE
#include <Python.h>

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <netdb.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum {
    MEMORY = 1, /* malloc() and what else the C core gets memory from */
    PYTHON = 2, /* functions of CPython that raise MemoryError */
    CRYPTO = 4, /* OpenSSL and zlib */
    SYSTEM = 8, /* system calls */
    CLOCKS = 16,
};

enum { PLACES_MAX = 4096, NAMES_MAX = 256, ARGUMENTS_MAX = 8 };

/* What to do with a call. */
enum verdict { PASS, FAIL, SHORT };

struct entry {
    const char *called;
    unsigned group;
    void *wrapper;
    void **real;
};

struct place {
    uintptr_t at; /* from the beginning of the module */
    uint32_t function;
    uint32_t times;
};

/* Beginning of the module, set once. */
static uintptr_t module_base;

static struct entry *entries[NAMES_MAX];
static unsigned entry_count;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* With the lock. */
static struct place places[PLACES_MAX];
static unsigned place_count;
static unsigned recorded; /* groups whose places are noted */
static bool armed;        /* the following hold */
static unsigned armed_function;
static uintptr_t armed_at;  /* 0: anywhere */
static unsigned armed_skip; /* calls that pass before */
static unsigned armed_left; /* calls that fail then */
static int armed_code;      /* errno, or -1: a short count */
static unsigned fired;
static int storm; /* of which kind */
static uint64_t storm_random;

static atomic_long live_memory;
static _Atomic int64_t wall_step; /* seconds that CLOCK_REALTIME is off by */
static atomic_uint clocks_read;   /* others than CLOCK_MONOTONIC */

enum { STORM_NONE, STORM_ONE_BYTE, STORM_RANDOM, STORM_EINTR, STORM_EAGAIN };

static void
add(struct entry *entry)
{
    if (entry_count < NAMES_MAX) {
        entries[entry_count++] = entry;
    }
}

static unsigned
index_of(const struct entry *entry)
{
    unsigned i = 0;
    while (i < entry_count && entries[i] != entry) {
        i++;
    }
    return i;
}

static void
note(unsigned function, uintptr_t at)
{
    unsigned i = 0;
    while (i < place_count
           && (places[i].at != at || places[i].function != function)) {
        i++;
    }
    if (i == place_count && i < PLACES_MAX) {
        places[place_count++] = (struct place){.at = at, .function = function};
    }
    if (i < place_count) {
        places[i].times++;
    }
}

/* Of calls that move bytes or wait. */
static enum verdict
suffer(bool moves, int *code)
{
    storm_random = storm_random * 6364136223846793005u + 1442695040888963407u;
    unsigned chance = (unsigned)(storm_random >> 40);
    switch (storm) {
    case STORM_ONE_BYTE:
        return moves ? SHORT : PASS;
    case STORM_RANDOM:
        return moves && chance % 2 == 0 ? SHORT : PASS;
    case STORM_EINTR:
        *code = EINTR;
        return chance % 2 == 0 ? FAIL : PASS;
    case STORM_EAGAIN:
        *code = EAGAIN;
        return moves && chance % 2 == 0 ? FAIL : PASS;
    default:
        return PASS;
    }
}

static enum verdict
judge(const struct entry *entry, const void *return_address, bool storms,
      bool moves)
{
    enum verdict verdict = PASS;
    int code = 0;
    uintptr_t at = (uintptr_t)return_address - module_base;
    unsigned function = index_of(entry);
    int before = errno;
    pthread_mutex_lock(&lock);
    if ((recorded & entry->group) != 0) {
        note(function, at);
    }
    if (storm != STORM_NONE && storms) {
        verdict = suffer(moves, &code);
    }
    if (armed && function == armed_function
        && (armed_at == 0 || armed_at == at)) {
        if (armed_skip > 0) {
            armed_skip--;
        }
        else if (armed_left > 0) {
            armed_left--;
            fired++;
            code = armed_code;
            verdict = code == -1 ? SHORT : FAIL;
        }
    }
    pthread_mutex_unlock(&lock);
    errno = verdict == FAIL && code > 0 ? code : before;
    return verdict;
}

#define FAILS(name)                                                           \
    (judge(&entry_##name, __builtin_return_address(0), false, false) != PASS)

#define ENTRY(group_, name)                                                   \
    static struct entry entry_##name = {                                      \
        .called = #name,                                                      \
        .group = group_,                                                      \
        .wrapper = (void *)wrap_##name,                                       \
        .real = (void **)&real_##name,                                        \
    };                                                                        \
    __attribute__((constructor)) static void register_##name(void)            \
    {                                                                         \
        add(&entry_##name);                                                   \
    }

/* A function that fails by returning `failure`. */
#define WRAP(group, type, name, parameters, arguments, failure)               \
    static type(*real_##name) parameters;                                     \
    static type wrap_##name parameters;                                       \
    ENTRY(group, name)                                                        \
    static type wrap_##name parameters                                        \
    {                                                                         \
        return FAILS(name) ? (failure) : real_##name arguments;               \
    }

/* A function that is written out: it declares, this registers. */
#define DECLARE(group, type, name, parameters)                                \
    static type(*real_##name) parameters;                                     \
    static type wrap_##name parameters;                                       \
    ENTRY(group, name)

/* Memory ------------------------------------------------------------------ */

static void *
counted(void *made)
{
    if (made != NULL) {
        atomic_fetch_add(&live_memory, 1);
    }
    return made;
}

static void *
no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

/* A function whose results free() or the like takes back. */
#define COUNTED(group, type, name, parameters, arguments, failure)            \
    DECLARE(group, type, name, parameters)                                    \
    static type wrap_##name parameters                                        \
    {                                                                         \
        return FAILS(name) ? (failure) : counted(real_##name arguments);      \
    }

#define RELEASED(group, type, name)                                           \
    DECLARE(group, void, name, (type p))                                      \
    static void wrap_##name(type p)                                           \
    {                                                                         \
        if (p != NULL) {                                                      \
            atomic_fetch_sub(&live_memory, 1);                                \
        }                                                                     \
        real_##name(p);                                                       \
    }

COUNTED(MEMORY, void *, malloc, (size_t n), (n), no_memory())
COUNTED(MEMORY, void *, calloc, (size_t n, size_t m), (n, m), no_memory())
COUNTED(MEMORY, char *, strdup, (const char *s), (s), no_memory())
COUNTED(MEMORY, char *, strndup, (const char *s, size_t n), (s, n),
        no_memory())
RELEASED(0, void *, free)

DECLARE(MEMORY, void *, realloc, (void *p, size_t n))
static void *
wrap_realloc(void *p, size_t n)
{
    if (FAILS(realloc)) {
        return no_memory();
    }
    void *made = real_realloc(p, n);
    return p == NULL ? counted(made) : made;
}

WRAP(MEMORY, void *, mmap,
     (void *p, size_t n, int protection, int flags, int fd, off_t offset),
     (p, n, protection, flags, fd, offset), (errno = ENOMEM, MAP_FAILED))
WRAP(MEMORY, int, pthread_mutex_init,
     (pthread_mutex_t * mutex, const pthread_mutexattr_t *attributes),
     (mutex, attributes), ENOMEM)
WRAP(MEMORY, int, pthread_cond_init,
     (pthread_cond_t * condition, const pthread_condattr_t *attributes),
     (condition, attributes), ENOMEM)
WRAP(MEMORY, int, pthread_attr_init, (pthread_attr_t * attributes),
     (attributes), ENOMEM)
WRAP(MEMORY, int, getaddrinfo,
     (const char *host, const char *port, const struct addrinfo *hints,
      struct addrinfo **found),
     (host, port, hints, found), EAI_MEMORY)

/* CPython ----------------------------------------------------------------- */

static int
raises(void)
{
    PyErr_NoMemory();
    return -1;
}

#define OBJECT(name, parameters, arguments)                                   \
    WRAP(PYTHON, PyObject *, name, parameters, arguments, PyErr_NoMemory())
#define NUMBER(name, parameters, arguments)                                   \
    WRAP(PYTHON, int, name, parameters, arguments, raises())

typedef PyObject *Object;

COUNTED(PYTHON, void *, PyMem_Malloc, (size_t n), (n), NULL)
COUNTED(PYTHON, void *, PyMem_Calloc, (size_t n, size_t m), (n, m), NULL)
COUNTED(PYTHON, PyThread_type_lock, PyThread_allocate_lock, (void), (), NULL)
RELEASED(0, void *, PyMem_Free)
RELEASED(0, PyThread_type_lock, PyThread_free_lock)

OBJECT(PyBytes_FromObject, (Object o), (o))
OBJECT(PyBytes_FromStringAndSize, (const char *s, Py_ssize_t n), (s, n))
OBJECT(PyDict_Copy, (Object o), (o))
OBJECT(PyDict_New, (void), ())
NUMBER(PyDict_SetItem, (Object o, Object key, Object value), (o, key, value))
NUMBER(PyDict_SetItemString, (Object o, const char *key, Object value),
       (o, key, value))
NUMBER(PyDict_Update, (Object o, Object other), (o, other))
OBJECT(PyFloat_FromDouble, (double number), (number))
OBJECT(PyImport_ImportModule, (const char *name), (name))
NUMBER(PyList_Append, (Object o, Object item), (o, item))
OBJECT(PyList_New, (Py_ssize_t n), (n))
NUMBER(PyList_SetSlice, (Object o, Py_ssize_t low, Py_ssize_t high, Object v),
       (o, low, high, v))
OBJECT(PyLong_FromLong, (long n), (n))
OBJECT(PyLong_FromSize_t, (size_t n), (n))
OBJECT(PyLong_FromSsize_t, (Py_ssize_t n), (n))
OBJECT(PyLong_FromUnsignedLong, (unsigned long n), (n))
OBJECT(PyLong_FromUnsignedLongLong, (unsigned long long n), (n))
NUMBER(PyModule_AddFunctions, (Object o, PyMethodDef *functions),
       (o, functions))
NUMBER(PyModule_AddIntConstant, (Object o, const char *name, long value),
       (o, name, value))
NUMBER(PyModule_AddType, (Object o, PyTypeObject *type), (o, type))
OBJECT(PyObject_ASCII, (Object o), (o))
OBJECT(PyObject_Call, (Object o, Object args, Object kwargs),
       (o, args, kwargs))
OBJECT(PyObject_CallNoArgs, (Object o), (o))
OBJECT(PyObject_CallObject, (Object o, Object args), (o, args))
OBJECT(PyObject_CallOneArg, (Object o, Object arg), (o, arg))
OBJECT(PyObject_GetAttr, (Object o, Object name), (o, name))
OBJECT(PyObject_GetAttrString, (Object o, const char *name), (o, name))
NUMBER(PyObject_GetBuffer, (Object o, Py_buffer *view, int flags),
       (o, view, flags))
OBJECT(PyObject_GetIter, (Object o), (o))
OBJECT(PyObject_Repr, (Object o), (o))
OBJECT(PyObject_RichCompare, (Object o, Object other, int op), (o, other, op))
NUMBER(PyObject_SetAttr, (Object o, Object name, Object value),
       (o, name, value))
NUMBER(PyObject_SetAttrString, (Object o, const char *name, Object value),
       (o, name, value))
OBJECT(PyObject_Str, (Object o), (o))
OBJECT(PyObject_Vectorcall,
       (Object o, PyObject *const *args, size_t n, Object names),
       (o, args, n, names))
OBJECT(PyObject_VectorcallMethod,
       (Object o, PyObject *const *args, size_t n, Object names),
       (o, args, n, names))
OBJECT(PySequence_Concat, (Object o, Object other), (o, other))
OBJECT(PySequence_GetSlice, (Object o, Py_ssize_t low, Py_ssize_t high),
       (o, low, high))
OBJECT(PySequence_Tuple, (Object o), (o))
NUMBER(PySet_Add, (Object o, Object item), (o, item))
OBJECT(PySet_New, (Object o), (o))
OBJECT(PyTuple_New, (Py_ssize_t n), (n))
OBJECT(PyType_FromModuleAndSpec, (Object o, PyType_Spec *spec, Object bases),
       (o, spec, bases))
OBJECT(PyType_GenericAlloc, (PyTypeObject * type, Py_ssize_t n), (type, n))
OBJECT(PyUnicode_AsASCIIString, (Object o), (o))
OBJECT(PyUnicode_AsEncodedString,
       (Object o, const char *encoding, const char *errors),
       (o, encoding, errors))
OBJECT(PyUnicode_AsLatin1String, (Object o), (o))
OBJECT(PyUnicode_AsUTF8String, (Object o), (o))
WRAP(PYTHON, const char *, PyUnicode_AsUTF8, (Object o), (o),
     (PyErr_NoMemory(), NULL))
WRAP(PYTHON, const char *, PyUnicode_AsUTF8AndSize,
     (Object o, Py_ssize_t *size), (o, size), (PyErr_NoMemory(), NULL))
OBJECT(PyUnicode_DecodeASCII,
       (const char *s, Py_ssize_t n, const char *errors), (s, n, errors))
OBJECT(PyUnicode_DecodeFSDefaultAndSize, (const char *s, Py_ssize_t n), (s, n))
OBJECT(PyUnicode_DecodeLatin1,
       (const char *s, Py_ssize_t n, const char *errors), (s, n, errors))
OBJECT(PyUnicode_DecodeUTF8, (const char *s, Py_ssize_t n, const char *errors),
       (s, n, errors))
OBJECT(PyUnicode_FromObject, (Object o), (o))
OBJECT(PyUnicode_FromString, (const char *s), (s))
OBJECT(PyUnicode_FromStringAndSize, (const char *s, Py_ssize_t n), (s, n))
OBJECT(PyUnicode_InternFromString, (const char *s), (s))
OBJECT(PyUnicode_Join, (Object o, Object items), (o, items))
OBJECT(PyUnicode_New, (Py_ssize_t n, Py_UCS4 most), (n, most))
OBJECT(PyWeakref_NewRef, (Object o, Object callback), (o, callback))
OBJECT(Py_GenericAlias, (Object o, Object args), (o, args))
OBJECT(_PyObject_New, (PyTypeObject * type), (type))

/* Those with any number of arguments can't be passed on. */

DECLARE(PYTHON, Object, PyTuple_Pack, (Py_ssize_t n, ...))
static Object
wrap_PyTuple_Pack(Py_ssize_t n, ...)
{
    va_list items;
    if (FAILS(PyTuple_Pack)) {
        return PyErr_NoMemory();
    }
    Object tuple = PyTuple_New(n);
    va_start(items, n);
    for (Py_ssize_t i = 0; tuple != NULL && i < n; i++) {
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(va_arg(items, Object)));
    }
    va_end(items);
    return tuple;
}

DECLARE(PYTHON, Object, PyUnicode_FromFormat, (const char *format, ...))
static Object
wrap_PyUnicode_FromFormat(const char *format, ...)
{
    va_list values;
    if (FAILS(PyUnicode_FromFormat)) {
        return PyErr_NoMemory();
    }
    va_start(values, format);
    Object text = PyUnicode_FromFormatV(format, values);
    va_end(values);
    return text;
}

DECLARE(PYTHON, Object, PyObject_CallFunctionObjArgs, (Object o, ...))
static Object
wrap_PyObject_CallFunctionObjArgs(Object o, ...)
{
    Object args[ARGUMENTS_MAX];
    size_t count = 0;
    va_list items;
    if (FAILS(PyObject_CallFunctionObjArgs)) {
        return PyErr_NoMemory();
    }
    va_start(items, o);
    Object item = va_arg(items, Object);
    while (item != NULL && count < ARGUMENTS_MAX) {
        args[count++] = item;
        item = va_arg(items, Object);
    }
    va_end(items);
    return PyObject_Vectorcall(o, args, count, NULL);
}

PyAPI_FUNC(PyObject *)
    _Py_VaBuildValue_SizeT(const char *format, va_list values);

DECLARE(PYTHON, Object, _Py_BuildValue_SizeT, (const char *format, ...))
static Object
wrap__Py_BuildValue_SizeT(const char *format, ...)
{
    va_list values;
    bool fails = FAILS(_Py_BuildValue_SizeT);
    va_start(values, format);
    Object value = _Py_VaBuildValue_SizeT(format, values);
    va_end(values);
    if (fails) { /* what it is given by "N" is taken all the same */
        Py_XDECREF(value);
        return PyErr_NoMemory();
    }
    return value;
}

/* Takes `callable` over, and what it is given by "N" even if it fails. */
static Object
call_built(Object callable, const char *format, va_list values, bool fails)
{
    Object result = NULL;
    Object args = format == NULL || *format == '\0'
                      ? PyTuple_New(0)
                      : _Py_VaBuildValue_SizeT(format, values);
    if (args != NULL && !PyTuple_Check(args)) {
        Object single = args;
        args = PyTuple_Pack(1, single);
        Py_DECREF(single);
    }
    if (fails) {
        (void)PyErr_NoMemory();
    }
    else if (args != NULL) {
        result = PyObject_Call(callable, args, NULL);
    }
    Py_XDECREF(args);
    Py_DECREF(callable);
    return result;
}

DECLARE(PYTHON, Object, _PyObject_CallFunction_SizeT,
        (Object o, const char *format, ...))
static Object
wrap__PyObject_CallFunction_SizeT(Object o, const char *format, ...)
{
    va_list values;
    bool fails = FAILS(_PyObject_CallFunction_SizeT);
    va_start(values, format);
    Object result = call_built(Py_NewRef(o), format, values, fails);
    va_end(values);
    return result;
}

DECLARE(PYTHON, Object, _PyObject_CallMethod_SizeT,
        (Object o, const char *name, const char *format, ...))
static Object
wrap__PyObject_CallMethod_SizeT(Object o, const char *name, const char *format,
                                ...)
{
    va_list values;
    bool fails = FAILS(_PyObject_CallMethod_SizeT);
    Object method = PyObject_GetAttrString(o, name);
    if (method == NULL) {
        return NULL;
    }
    va_start(values, format);
    Object result = call_built(method, format, values, fails);
    va_end(values);
    return result;
}

/* OpenSSL and zlib -------------------------------------------------------- */

/* Of libcrypto, which the program need not have loaded for all. */
static void (*new_error)(void);
static void (*set_error)(int library, int reason, const char *format, ...);

static int
crypto_fails(int result)
{
    new_error();
    set_error(ERR_LIB_SSL, ERR_R_MALLOC_FAILURE, NULL);
    return result;
}

static void *
crypto_fails_null(void)
{
    (void)crypto_fails(0);
    return NULL;
}

#define MADE(type, name, parameters, arguments)                               \
    WRAP(CRYPTO, type, name, parameters, arguments, crypto_fails_null())
#define DONE(name, parameters, arguments)                                     \
    WRAP(CRYPTO, int, name, parameters, arguments, crypto_fails(0))

MADE(BIO *, BIO_new, (const BIO_METHOD *method), (method))
MADE(BIO_METHOD *, BIO_meth_new, (int type, const char *name), (type, name))
MADE(BUF_MEM *, BUF_MEM_new, (void), ())
WRAP(CRYPTO, size_t, BUF_MEM_grow_clean, (BUF_MEM * memory, size_t n),
     (memory, n), (size_t)crypto_fails(0))
MADE(EVP_MD_CTX *, EVP_MD_CTX_new, (void), ())
DONE(EVP_DigestInit_ex,
     (EVP_MD_CTX * context, const EVP_MD *type, ENGINE *engine),
     (context, type, engine))
DONE(EVP_DigestUpdate, (EVP_MD_CTX * context, const void *data, size_t n),
     (context, data, n))
MADE(unsigned char *, HMAC,
     (const EVP_MD *type, const void *key, int length,
      const unsigned char *data, size_t n, unsigned char *out, unsigned *made),
     (type, key, length, data, n, out, made))
MADE(X509 *, PEM_read_bio_X509,
     (BIO * bio, X509 **x, pem_password_cb *callback, void *u),
     (bio, x, callback, u))
MADE(X509 *, PEM_read_bio_X509_AUX,
     (BIO * bio, X509 **x, pem_password_cb *callback, void *u),
     (bio, x, callback, u))
MADE(EVP_PKEY *, PEM_read_bio_PrivateKey,
     (BIO * bio, EVP_PKEY **x, pem_password_cb *callback, void *u),
     (bio, x, callback, u))
MADE(X509 *, d2i_X509, (X509 * *x, const unsigned char **in, long n),
     (x, in, n))
WRAP(CRYPTO, int, i2d_X509, (const X509 *x, unsigned char **out), (x, out),
     crypto_fails(-1))
MADE(ASN1_TIME *, ASN1_TIME_set, (ASN1_TIME * t, time_t at), (t, at))
MADE(OPENSSL_STACK *, OPENSSL_sk_new_null, (void), ())
DONE(OPENSSL_sk_push, (OPENSSL_STACK * stack, const void *data), (stack, data))
DONE(X509_STORE_add_cert, (X509_STORE * store, X509 *x), (store, x))
DONE(X509_VERIFY_PARAM_set1_host,
     (X509_VERIFY_PARAM * param, const char *name, size_t n), (param, name, n))
MADE(SSL_CTX *, SSL_CTX_new, (const SSL_METHOD *method), (method))
DONE(SSL_CTX_set_cipher_list, (SSL_CTX * context, const char *list),
     (context, list))
DONE(SSL_CTX_use_certificate, (SSL_CTX * context, X509 *x), (context, x))
WRAP(CRYPTO, int, SSL_CTX_set_alpn_protos,
     (SSL_CTX * context, const unsigned char *names, unsigned n),
     (context, names, n), crypto_fails(1))
MADE(SSL *, SSL_new, (SSL_CTX * context), (context))
DONE(SSL_set_ex_data, (SSL * ssl, int index, void *data), (ssl, index, data))
DONE(SSL_set_session, (SSL * ssl, SSL_SESSION *session), (ssl, session))
MADE(SSL_SESSION *, SSL_SESSION_dup, (const SSL_SESSION *session), (session))
WRAP(CRYPTO, int, SSL_do_handshake, (SSL * ssl), (ssl), crypto_fails(-1))
DONE(SSL_read_ex, (SSL * ssl, void *data, size_t n, size_t *got),
     (ssl, data, n, got))
DONE(SSL_write_ex, (SSL * ssl, const void *data, size_t n, size_t *put),
     (ssl, data, n, put))

WRAP(CRYPTO, int, deflateInit2_,
     (z_streamp stream, int level, int method, int bits, int memory,
      int strategy, const char *version, int size),
     (stream, level, method, bits, memory, strategy, version, size),
     Z_MEM_ERROR)
WRAP(CRYPTO, int, inflateInit2_,
     (z_streamp stream, int bits, const char *version, int size),
     (stream, bits, version, size), Z_MEM_ERROR)
WRAP(CRYPTO, int, inflate, (z_streamp stream, int flush), (stream, flush),
     Z_MEM_ERROR)

/* The system -------------------------------------------------------------- */

#define CALL(name, parameters, arguments)                                     \
    WRAP(SYSTEM, int, name, parameters, arguments, -1)

/* A call that a storm interrupts, and that moves bytes where `n` is how many;
 * else `n` is not used. */
#define STORMY(type, name, parameters, arguments, moves, shortened)           \
    DECLARE(SYSTEM, type, name, parameters)                                   \
    static type wrap_##name parameters                                        \
    {                                                                         \
        switch (                                                              \
            judge(&entry_##name, __builtin_return_address(0), true, moves)) { \
        case FAIL:                                                            \
            return -1;                                                        \
        case SHORT:                                                           \
            return shortened;                                                 \
        default:                                                              \
            return real_##name arguments;                                     \
        }                                                                     \
    }

STORMY(ssize_t, recv, (int fd, void *data, size_t n, int flags),
       (fd, data, n, flags), true, real_recv(fd, data, n > 0 ? 1 : 0, flags))
STORMY(ssize_t, send, (int fd, const void *data, size_t n, int flags),
       (fd, data, n, flags), true, real_send(fd, data, n > 0 ? 1 : 0, flags))
STORMY(ssize_t, read, (int fd, void *data, size_t n), (fd, data, n), n != 8,
       real_read(fd, data, n > 0 ? 1 : 0))
STORMY(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n),
       n != 8, real_write(fd, data, n > 0 ? 1 : 0))
STORMY(ssize_t, getrandom, (void *data, size_t n, unsigned flags),
       (data, n, flags), false, real_getrandom(data, n > 0 ? 1 : 0, flags))
STORMY(int, poll, (struct pollfd * entries, nfds_t n, int timeout),
       (entries, n, timeout), false, 0)
STORMY(int, epoll_wait,
       (int fd, struct epoll_event *events, int n, int timeout),
       (fd, events, n, timeout), false, 0)
STORMY(int, accept4,
       (int fd, struct sockaddr *address, socklen_t *n, int flags),
       (fd, address, n, flags), false, -1)

static ssize_t
send_one_byte(int fd, const struct msghdr *message, int flags)
{
    struct iovec first = {.iov_base = NULL, .iov_len = 0};
    struct msghdr shortened = *message;
    for (size_t i = 0; i < message->msg_iovlen && first.iov_len == 0; i++) {
        first = message->msg_iov[i];
    }
    first.iov_len = first.iov_len > 0 ? 1 : 0;
    shortened.msg_iov = &first;
    shortened.msg_iovlen = 1;
    return sendmsg(fd, &shortened, flags);
}

STORMY(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags),
       (fd, message, flags), true, send_one_byte(fd, message, flags))

CALL(socket, (int family, int type, int protocol), (family, type, protocol))
CALL(connect, (int fd, const struct sockaddr *address, socklen_t n),
     (fd, address, n))
CALL(setsockopt, (int fd, int level, int name, const void *p, socklen_t n),
     (fd, level, name, p, n))
CALL(getsockopt, (int fd, int level, int name, void *p, socklen_t *n),
     (fd, level, name, p, n))
CALL(getsockname, (int fd, struct sockaddr *address, socklen_t *n),
     (fd, address, n))
CALL(getpeername, (int fd, struct sockaddr *address, socklen_t *n),
     (fd, address, n))
CALL(shutdown, (int fd, int how), (fd, how))
CALL(epoll_create1, (int flags), (flags))
CALL(epoll_ctl, (int fd, int op, int other, struct epoll_event *event),
     (fd, op, other, event))
CALL(eventfd, (unsigned value, int flags), (value, flags))
CALL(timerfd_create, (clockid_t clock, int flags), (clock, flags))
CALL(timerfd_settime,
     (int fd, int flags, const struct itimerspec *value,
      struct itimerspec *old),
     (fd, flags, value, old))
CALL(pipe2, (int *ends, int flags), (ends, flags))
CALL(dup3, (int fd, int other, int flags), (fd, other, flags))
CALL(madvise, (void *p, size_t n, int advice), (p, n, advice))
WRAP(SYSTEM, int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attributes,
      void *(*function)(void *), void *argument),
     (thread, attributes, function, argument), errno)

DECLARE(SYSTEM, int, open, (const char *path, int flags, ...))
static int
wrap_open(const char *path, int flags, ...)
{
    return FAILS(open) ? -1 : real_open(path, flags, 0);
}

/* Clocks ------------------------------------------------------------------ */

DECLARE(CLOCKS, int, clock_gettime, (clockid_t clock, struct timespec *now))
static int
wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = real_clock_gettime(clock, now);
    if (clock != CLOCK_MONOTONIC) {
        atomic_fetch_add(&clocks_read, 1);
        now->tv_sec += (time_t)atomic_load(&wall_step);
    }
    return result;
}

DECLARE(CLOCKS, time_t, time, (time_t * out))
static time_t
wrap_time(time_t *out)
{
    time_t now = real_time(NULL) + (time_t)atomic_load(&wall_step);
    atomic_fetch_add(&clocks_read, 1);
    if (out != NULL) {
        *out = now;
    }
    return now;
}

/* For Python -------------------------------------------------------------- */

static const struct entry *
find_entry(const char *name)
{
    for (unsigned i = 0; i < entry_count; i++) {
        if (strcmp(entries[i]->called, name) == 0) {
            return entries[i];
        }
    }
    return NULL;
}

/* Of the module's dynamic section. */
struct relocations {
    const ElfW(Sym) * symbols;
    const char *names;
    const ElfW(Rela) * tables[2];
    size_t sizes[2];
};

static void
read_dynamic(const ElfW(Dyn) * dynamic, struct relocations *found)
{
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        void *p = (void *)dynamic->d_un.d_ptr; /* ld.so has added the base */
        switch (dynamic->d_tag) {
        case DT_SYMTAB:
            found->symbols = p;
            break;
        case DT_STRTAB:
            found->names = p;
            break;
        case DT_JMPREL:
            found->tables[0] = p;
            break;
        case DT_PLTRELSZ:
            found->sizes[0] = dynamic->d_un.d_val;
            break;
        case DT_RELA:
            found->tables[1] = p;
            break;
        case DT_RELASZ:
            found->sizes[1] = dynamic->d_un.d_val;
            break;
        default:
            break;
        }
    }
}

/* Which slots hold the address of a function. */
static bool
is_slot(const ElfW(Rela) * rela)
{
#if defined(__x86_64__)
    return ELF64_R_TYPE(rela->r_info) == R_X86_64_JUMP_SLOT
           || ELF64_R_TYPE(rela->r_info) == R_X86_64_GLOB_DAT
           || ELF64_R_TYPE(rela->r_info) == R_X86_64_64;
#elif defined(__aarch64__)
    return ELF64_R_TYPE(rela->r_info) == R_AARCH64_JUMP_SLOT
           || ELF64_R_TYPE(rela->r_info) == R_AARCH64_GLOB_DAT
           || ELF64_R_TYPE(rela->r_info) == R_AARCH64_ABS64;
#else
#error "which relocations are slots of functions is not known here"
#endif
}

static int
point_at_wrapper(void **slot, const struct entry *entry, void *handle)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)slot / page * page;
    void *real = dlsym(RTLD_DEFAULT, entry->called);
    *entry->real = real != NULL ? real : dlsym(handle, entry->called);
    if (*entry->real == NULL
        || mprotect((void *)begin, page, PROT_READ | PROT_WRITE) < 0) {
        return -1;
    }
    *slot = entry->wrapper;
    return 0;
}

/* The number of functions that calls of the loaded module at `path` are
 * watched of, or -1. */
int faults_attach(const char *path);
int
faults_attach(const char *path)
{
    struct link_map *map;
    struct relocations found = {0};
    int count = 0;
    void *handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    if (handle == NULL || dlinfo(handle, RTLD_DI_LINKMAP, &map) < 0) {
        return -1;
    }
    module_base = map->l_addr;
    read_dynamic(map->l_ld, &found);
    *(void **)&new_error = dlsym(handle, "ERR_new");
    *(void **)&set_error = dlsym(handle, "ERR_set_error");
    for (unsigned t = 0; t < 2; t++) {
        for (size_t i = 0; i < found.sizes[t] / sizeof(ElfW(Rela)); i++) {
            const ElfW(Rela) *rela = &found.tables[t][i];
            const ElfW(Sym) *symbol =
                &found.symbols[ELF64_R_SYM(rela->r_info)];
            const struct entry *entry =
                find_entry(found.names + symbol->st_name);
            void **slot = (void **)(map->l_addr + rela->r_offset);
            if (is_slot(rela) && entry != NULL) {
                if (point_at_wrapper(slot, entry, handle) < 0) {
                    return -1;
                }
                count++;
            }
        }
    }
    return count;
}

/* A type's objects are made through a slot of the type. */
int faults_attach_type(PyTypeObject *type);
int
faults_attach_type(PyTypeObject *type)
{
    if (type->tp_alloc != PyType_GenericAlloc) {
        return -1;
    }
    real_PyType_GenericAlloc = PyType_GenericAlloc;
    type->tp_alloc = wrap_PyType_GenericAlloc;
    return 0;
}

/* Forget what was recorded, and note what these groups pass from now on. */
void faults_record(unsigned groups);
void
faults_record(unsigned groups)
{
    pthread_mutex_lock(&lock);
    place_count = 0;
    recorded = groups;
    pthread_mutex_unlock(&lock);
}

/* End it. How many places there are. */
unsigned faults_recorded(void);
unsigned
faults_recorded(void)
{
    pthread_mutex_lock(&lock);
    recorded = 0;
    unsigned count = place_count;
    pthread_mutex_unlock(&lock);
    return count;
}

/* The name of the function that is called at a place. */
const char *faults_place(unsigned i, uint32_t *function, uintptr_t *at,
                         uint32_t *times);
const char *
faults_place(unsigned i, uint32_t *function, uintptr_t *at, uint32_t *times)
{
    pthread_mutex_lock(&lock);
    *function = places[i].function;
    *at = places[i].at;
    *times = places[i].times;
    pthread_mutex_unlock(&lock);
    return entries[*function]->called;
}

/* Its number, or -1. */
int faults_function(const char *name);
int
faults_function(const char *name)
{
    const struct entry *entry = find_entry(name);
    return entry == NULL ? -1 : (int)index_of(entry);
}

/* Have `times` calls fail there once `skip` have passed. */
void faults_arm(uint32_t function, uintptr_t at, uint32_t skip, uint32_t times,
                int code);
void
faults_arm(uint32_t function, uintptr_t at, uint32_t skip, uint32_t times,
           int code)
{
    pthread_mutex_lock(&lock);
    armed = true;
    armed_function = function;
    armed_at = at;
    armed_skip = skip;
    armed_left = times;
    armed_code = code;
    fired = 0;
    pthread_mutex_unlock(&lock);
}

/* How many calls have failed. */
unsigned faults_disarm(void);
unsigned
faults_disarm(void)
{
    pthread_mutex_lock(&lock);
    armed = false;
    unsigned count = fired;
    pthread_mutex_unlock(&lock);
    return count;
}

void faults_storm(int kind, uint64_t seed);
void
faults_storm(int kind, uint64_t seed)
{
    pthread_mutex_lock(&lock);
    storm = kind;
    storm_random = seed;
    pthread_mutex_unlock(&lock);
}

/* Blocks of memory and locks that the module has made and not freed. */
long faults_live(void);
long
faults_live(void)
{
    return atomic_load(&live_memory);
}

void faults_step_clock(int64_t seconds);
void
faults_step_clock(int64_t seconds)
{
    atomic_store(&wall_step, seconds);
}

/* How often a clock other than CLOCK_MONOTONIC was read. */
unsigned faults_clocks_read(void);
unsigned
faults_clocks_read(void)
{
    return atomic_load(&clocks_read);
}
