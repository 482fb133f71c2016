#include "python/tls_context_type.h"

#include "python/errors.h"
#include "net/tls_certificate.h"

#include <errno.h>

typedef struct {
    PyObject_HEAD
    struct tws_tls_context *context; /* a reference */
} TLSContextObject;

struct tws_tls_context *
tws_tls_context_in(struct tws_state *state, PyObject *object)
{
    if (!PyObject_TypeCheck(object, state->tls_context_type)) {
        return NULL;
    }
    return ((TLSContextObject *)object)->context;
}

/* Certificates: a tuple of (name, certfile, keyfile, password), of which each
 * but certfile may be None. Owned by the caller (PyMem_Free()); what they
 * point to is borrowed. NULL with an exception. */
static struct tws_tls_identity *
read_identities(PyObject *tuple)
{
    Py_ssize_t count = PyTuple_GET_SIZE(tuple);
    struct tws_tls_identity *identities =
        PyMem_Calloc((size_t)count + 1, sizeof(*identities));
    if (identities == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        struct tws_tls_identity *identity = &identities[i];
        PyObject *item = PyTuple_GET_ITEM(tuple, i);
        if (!PyTuple_Check(item)) {
            PyErr_SetString(PyExc_TypeError,
                            "certificates holds something that is no tuple");
        }
        else if (PyArg_ParseTuple(item, "zsz|z", &identity->name,
                                  &identity->certfile, &identity->keyfile,
                                  &identity->password)) {
            continue;
        }
        PyMem_Free(identities);
        return NULL;
    }
    return identities;
}

static PyObject *
tls_context_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        "server_side", "certificates",    "verify", "cafile",   "capath",
        "ciphers",     "minimum_version", "alpn",   "previous", NULL,
    };
    struct tws_state *state = tws_state_of_type(type);
    struct tws_tls_options options = {.identities = NULL};
    struct tws_tls_identity *identities;
    struct tws_tls_context *previous = NULL;
    struct tws_tls_context *context;
    struct tws_error err;
    enum tws_status status;
    PyObject *tuple;
    PyObject *before = Py_None;
    const char *alpn = "";
    Py_ssize_t alpn_length = 0;
    int server = 0;
    int verify = 0;
    int version = 0;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "pO!pzzziy#|O:_TLSContext", names, &server,
            &PyTuple_Type, &tuple, &verify, &options.cafile, &options.capath,
            &options.ciphers, &version, &alpn, &alpn_length, &before)) {
        return NULL;
    }
    if (before != Py_None) {
        previous = tws_tls_context_in(state, before);
    }
    identities = read_identities(tuple);
    if (identities == NULL) {
        return NULL;
    }
    options.role = server ? TWS_SERVER : TWS_CLIENT;
    options.identities = identities;
    options.identity_count = (size_t)PyTuple_GET_SIZE(tuple);
    options.verify = verify != 0;
    options.minimum_version = (uint16_t)version;
    options.alpn =
        (struct tws_span){.data = alpn, .length = (size_t)alpn_length};
    Py_BEGIN_ALLOW_THREADS /* it reads files */
    status = tws_tls_context_new(&options, previous, &context, &err);
    Py_END_ALLOW_THREADS
    PyMem_Free(identities);
    if (status == TWS_OS) {
        errno = err.sys_errno; /* and the reason is the file's name */
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, err.reason);
    }
    if (status != TWS_OK) {
        return tws_raise(state, &err);
    }
    TLSContextObject *self = (TLSContextObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        tws_tls_context_release(context);
        return NULL;
    }
    self->context = context;
    return (PyObject *)self;
}

static void
tls_context_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    tws_tls_context_release(((TLSContextObject *)self)->context);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(tls_context_doc,
             "_TLSContext(server_side, certificates, verify, cafile, capath, "
             "ciphers, minimum_version, alpn, previous=None)\n--\n\n"
             "What TLS connections share. Private: twspy/_tls.py makes it.");

static PyType_Slot tls_context_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)tls_context_doc},
    {Py_tp_new, tls_context_new},
    {Py_tp_dealloc, tls_context_dealloc},
    {0, NULL},
};

PyType_Spec tws_tls_context_spec = {
    .name = "twspy._twspy._TLSContext",
    .basicsize = sizeof(TLSContextObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = tls_context_slots,
};

/* What connections tell ----------------------------------------------------
 */

PyObject *
tws_tls_cipher_object(const struct tws_tls_info *info)
{
    return Py_BuildValue("(ssi)", info->cipher, info->version, info->bits);
}

/* (type, text) pairs. */
static PyObject *
names_object(const struct tws_certificate *certificate)
{
    static const char *const types[] = {
        [TWS_NAME_DNS] = "DNS",
        [TWS_NAME_IP] = "IP",
        [TWS_NAME_EMAIL] = "email",
        [TWS_NAME_URI] = "URI",
    };
    PyObject *names = PyTuple_New((Py_ssize_t)certificate->name_count);
    if (names == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < certificate->name_count; i++) {
        const struct tws_certificate_name *name = &certificate->names[i];
        PyObject *pair = Py_BuildValue("(ss)", types[name->type], name->text);
        if (pair == NULL) {
            Py_DECREF(names);
            return NULL;
        }
        PyTuple_SET_ITEM(names, (Py_ssize_t)i, pair);
    }
    return names;
}

const char tws_parse_certificate_doc[] = PyDoc_STR(
    "_parse_certificate($module, der, /)\n--\n\n"
    "(subject, issuer, serial number, not before, not after, names) of a\n"
    "certificate; SSLError where it is none.");

PyObject *
tws_parse_certificate(PyObject *module, PyObject *der)
{
    struct tws_state *state = tws_state_of_module(module);
    struct tws_certificate certificate;
    struct tws_error err;
    if (!PyBytes_Check(der)) {
        PyErr_Format(PyExc_TypeError, "der is %.200s, expected bytes",
                     Py_TYPE(der)->tp_name);
        return NULL;
    }
    if (tws_certificate_parse((const uint8_t *)PyBytes_AS_STRING(der),
                              (size_t)PyBytes_GET_SIZE(der), &certificate,
                              &err)
        != TWS_OK) {
        return tws_raise(state, &err);
    }
    PyObject *result = NULL;
    PyObject *names = names_object(&certificate);
    if (names != NULL) {
        result = Py_BuildValue("(sssLLN)", certificate.subject,
                               certificate.issuer, certificate.serial,
                               (long long)certificate.not_before,
                               (long long)certificate.not_after, names);
    }
    tws_certificate_release(&certificate);
    return result;
}
