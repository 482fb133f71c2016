#include "python/auth_type.h"

#include "python/auth_nonces.h"
#include "python/options.h"

static inline AuthObject *
cast(PyObject *self)
{
    return (AuthObject *)self;
}

static PyObject *
auth_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    AuthObject *auth = (AuthObject *)type->tp_alloc(type, 0);
    if (auth != NULL) {
        auth->state = tws_state_of_type(type);
        if (auth->state == NULL) {
            Py_CLEAR(auth);
        }
    }
    return (PyObject *)auth;
}

static int
read_algorithms(AuthObject *auth, PyObject *names)
{
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t length;
        enum tws_digest_algorithm algorithm = TWS_DIGEST_MD5;
        PyObject *name = PyTuple_GET_ITEM(names, i);
        const char *text = NULL;
        if (PyUnicode_Check(name)) {
            text = PyUnicode_AsUTF8AndSize(name, &length);
            PyErr_Clear();
        }
        if (text == NULL
            || !tws_digest_by_name(
                (struct tws_span){.data = text, .length = (size_t)length},
                &algorithm)) {
            PyErr_Format(PyExc_ValueError,
                         "algorithms holds %R, expected 'SHA-256' or 'MD5'",
                         name);
            return -1;
        }
        for (size_t j = 0; j < auth->algorithm_count; j++) {
            if (auth->algorithms[j] == algorithm) {
                PyErr_Format(PyExc_ValueError, "algorithms holds %R twice",
                             name);
                return -1;
            }
        }
        auth->algorithms[auth->algorithm_count] = algorithm;
        auth->algorithm_count++;
    }
    return 0;
}

static int
read_realm(AuthObject *auth, PyObject *realm)
{
    Py_ssize_t length;
    const char *text = NULL;
    if (!PyUnicode_Check(realm)) {
        PyErr_Format(PyExc_TypeError, "realm is %.200s, expected str",
                     Py_TYPE(realm)->tp_name);
        return -1;
    }
    if (PyUnicode_IS_ASCII(realm)) {
        text = PyUnicode_AsUTF8AndSize(realm, &length);
        if (text == NULL) {
            return -1;
        }
        auth->realm_span =
            (struct tws_span){.data = text, .length = (size_t)length};
    }
    if (text == NULL || !tws_auth_is_realm(auth->realm_span)) {
        PyErr_Format(PyExc_ValueError,
                     "realm is %R, expected printable ASCII without '\"' and "
                     "'\\'",
                     realm);
        return -1;
    }
    auth->realm = Py_NewRef(realm);
    return 0;
}

PyDoc_STRVAR(auth_doc,
             "Auth(callback, realm, algorithms=(), nonce_lifetime=300.0)\n"
             "--\n"
             "\n"
             "The C half of BasicAuth (without algorithms) and DigestAuth.");

static int
auth_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"callback", "realm", "algorithms",
                            "nonce_lifetime", NULL};
    AuthObject *auth = cast(self);
    PyObject *callback;
    PyObject *realm;
    PyObject *algorithms = NULL;
    PyObject *given = NULL;
    uint64_t lifetime = (uint64_t)300 * 1000000000;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O!O:Auth", names,
                                     &callback, &realm, &PyTuple_Type,
                                     &algorithms, &given)) {
        return -1;
    }
    if (auth->callback != NULL) {
        PyErr_Format(PyExc_RuntimeError, "%.200s.__init__() was called before",
                     Py_TYPE(self)->tp_name);
        return -1;
    }
    bool digest = algorithms != NULL && PyTuple_GET_SIZE(algorithms) > 0;
    if (!PyCallable_Check(callback)) {
        PyErr_Format(
            PyExc_TypeError, "%s is %.200s, expected a callable %s",
            digest ? "password_of" : "check", Py_TYPE(callback)->tp_name,
            digest ? "password_of(username)" : "check(username, password)");
        return -1;
    }
    auth->algorithm_count = 0;
    Py_CLEAR(auth->realm);
    if (read_realm(auth, realm) < 0
        || (digest && read_algorithms(auth, algorithms) < 0)
        || tws_option_seconds(given, "nonce_lifetime", false, &lifetime) < 0) {
        return -1;
    }
    if (digest && auth->nonces == NULL) {
        auth->nonces = tws_auth_nonces_new(auth->state, lifetime);
        if (auth->nonces == NULL) {
            return -1;
        }
    }
    auth->callback = Py_NewRef(callback); /* now it is whole */
    return 0;
}

static int
auth_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(cast(self)->callback);
    return 0;
}

static int
auth_clear(PyObject *self)
{
    Py_CLEAR(cast(self)->callback);
    return 0;
}

static void
auth_dealloc(PyObject *self)
{
    AuthObject *auth = cast(self);
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)auth_clear(self);
    Py_CLEAR(auth->realm);
    tws_auth_nonces_free(auth->nonces);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Asking ---------------------------------------------------------------- */

/* Latin-1 of an attribute that is a str, as bytes. */
static PyObject *
latin1_of(PyObject *object, const char *name)
{
    PyObject *value = PyObject_GetAttrString(object, name);
    PyObject *bytes = NULL;
    if (value != NULL && !PyUnicode_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s is %.200s, expected str", name,
                     Py_TYPE(value)->tp_name);
    }
    else if (value != NULL) {
        bytes = PyUnicode_AsLatin1String(value);
    }
    Py_XDECREF(value);
    return bytes;
}

/* The values of a request's Authorization fields. */
static PyObject *
authorizations_of(PyObject *request)
{
    PyObject *list = NULL;
    PyObject *headers = PyObject_GetAttrString(request, "headers");
    if (headers != NULL) {
        list = PyObject_CallMethod(headers, "get_all", "s", "Authorization");
        Py_DECREF(headers);
    }
    if (list != NULL && !PyList_Check(list)) {
        PyErr_Format(PyExc_TypeError,
                     "get_all() returned %.200s, expected "
                     "a list",
                     Py_TYPE(list)->tp_name);
        Py_CLEAR(list);
    }
    return list;
}

/* The Response to who was refused. */
static PyObject *
response_of(AuthObject *auth, const struct tws_verdict *verdict)
{
    struct tws_buffer values[TWS_DIGEST_ALGORITHMS] = {TWS_BUFFER_EMPTY};
    PyObject *response = NULL;
    PyObject *fields = PyList_New(0);
    int count = 0;
    if (fields != NULL && verdict->refusal.http_status == 401) {
        count = tws_auth_challenges(auth, verdict->stale, values);
    }
    for (int i = 0; fields != NULL && i < count; i++) {
        PyObject *pair =
            Py_BuildValue("(ss#)", "WWW-Authenticate",
                          (const char *)tws_buffer_data(&values[i]),
                          (Py_ssize_t)tws_buffer_length(&values[i]));
        if (pair == NULL || PyList_Append(fields, pair) < 0) {
            Py_CLEAR(fields);
        }
        Py_XDECREF(pair);
    }
    if (fields != NULL && count >= 0) {
        PyObject *body = PyUnicode_FromFormat("%s\n", verdict->refusal.reason);
        if (body != NULL) {
            response = PyObject_CallFunction(auth->state->Response, "iOO",
                                             (int)verdict->refusal.http_status,
                                             fields, body);
            Py_DECREF(body);
        }
    }
    Py_XDECREF(fields);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(values); i++) {
        tws_buffer_release(&values[i]);
    }
    return response;
}

static struct tws_span
span_of(PyObject *bytes)
{
    return (struct tws_span){.data = PyBytes_AS_STRING(bytes),
                             .length = (size_t)PyBytes_GET_SIZE(bytes)};
}

PyDoc_STRVAR(
    authenticate_doc,
    "authenticate($self, request, /)\n"
    "--\n"
    "\n"
    "The user name that a plain HTTP request proves, or the Response to "
    "answer "
    "it\n"
    "with: 401 with challenges, or 400.\n"
    "\n"
    "For onrequest(): a server asks for credentials by itself only where a "
    "client\n"
    "wants a WebSocket. Browsers show no dialog for those, but send what they "
    "were\n"
    "told for a page of the same server. May take as long as the function "
    "that\n"
    "looks at the password, and raises what that raises. Any thread.");

static PyObject *
auth_authenticate(PyObject *self, PyObject *object)
{
    AuthObject *auth = cast(self);
    struct tws_auth_request request = {.credentials = TWS_SPAN("")};
    struct tws_verdict verdict;
    PyObject *result = NULL;
    PyObject *value = NULL;
    PyObject *method = latin1_of(object, "method");
    PyObject *target = method == NULL ? NULL : latin1_of(object, "target");
    PyObject *list = target == NULL ? NULL : authorizations_of(object);
    if (list == NULL) {
        goto done;
    }
    request.method = span_of(method);
    request.target = span_of(target);
    request.count = (size_t)PyList_GET_SIZE(list);
    if (request.count == 1) {
        PyObject *item = PyList_GET_ITEM(list, 0);
        value = PyUnicode_Check(item) ? PyUnicode_AsLatin1String(item) : NULL;
        if (value == NULL) {
            if (PyErr_Occurred() == NULL) {
                PyErr_SetString(PyExc_TypeError,
                                "the Authorization field is no str");
            }
            goto done;
        }
        request.credentials = span_of(value);
    }
    if (tws_auth_judge(auth, &request, &verdict) == 0) {
        result = verdict.username != NULL ? verdict.username
                                          : response_of(auth, &verdict);
    }
done:
    Py_XDECREF(method);
    Py_XDECREF(target);
    Py_XDECREF(list);
    Py_XDECREF(value);
    return result;
}

static PyObject *
get_realm(PyObject *self, void *closure)
{
    (void)closure;
    AuthObject *auth = cast(self);
    return Py_NewRef(auth->realm == NULL ? Py_None : auth->realm);
}

static PyMethodDef auth_methods[] = {
    {"authenticate", auth_authenticate, METH_O, authenticate_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef auth_getset[] = {
    {"realm", get_realm, NULL,
     PyDoc_STR("What a browser's dialog calls the place that the password is "
               "for."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot auth_slots[] = {
    {Py_tp_doc, (void *)auth_doc},
    {Py_tp_new, auth_new},
    {Py_tp_init, auth_init},
    {Py_tp_dealloc, auth_dealloc},
    {Py_tp_traverse, auth_traverse},
    {Py_tp_clear, auth_clear},
    {Py_tp_methods, auth_methods},
    {Py_tp_getset, auth_getset},
    {0, NULL},
};

PyType_Spec tws_auth_spec = {
    .name = "twspy._twspy.Auth",
    .basicsize = sizeof(AuthObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = auth_slots,
};
