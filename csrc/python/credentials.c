#include "python/credentials.h"

#include "protocol/http_auth.h"

/* One of both, in the form that RFC 7616 §4 wants; `what` names it. */
static PyObject *
read_text(struct tws_state *state, PyObject *given, const char *what)
{
    if (!PyUnicode_Check(given)) {
        PyErr_Format(PyExc_TypeError,
                     "auth has a %s that is %.200s, expected ('user', "
                     "'password'), two str",
                     what, Py_TYPE(given)->tp_name);
        return NULL;
    }
    PyObject *text =
        PyObject_CallFunction(state->normalize, "sO", "NFC", given);
    if (text == NULL) {
        return NULL;
    }
    Py_ssize_t length;
    const char *data = PyUnicode_AsUTF8AndSize(text, &length);
    struct tws_span span = {.data = data, .length = (size_t)length};
    if (data == NULL || !tws_auth_is_text(span)) {
        PyErr_Format(PyExc_ValueError,
                     "auth has a %s with a control character or a lone "
                     "surrogate, which can't be sent (RFC 7617 2)",
                     what);
        Py_CLEAR(text);
    }
    return text;
}

static int
read_pair(struct tws_state *state, PyObject *pair, PyObject **user,
          PyObject **password)
{
    if (PyTuple_GET_SIZE(pair) != 2) {
        PyErr_Format(PyExc_TypeError,
                     "auth is a tuple of %zd, expected ('user', 'password')",
                     PyTuple_GET_SIZE(pair));
        return -1;
    }
    PyObject *name = read_text(state, PyTuple_GET_ITEM(pair, 0), "user name");
    if (name == NULL) {
        return -1;
    }
    if (PyUnicode_FindChar(name, ':', 0, PyUnicode_GET_LENGTH(name), 1) >= 0) {
        PyErr_SetString(PyExc_ValueError,
                        "auth has a user name with a colon, which Basic "
                        "authentication can't tell from the end of it (RFC "
                        "7617 2)");
        Py_DECREF(name);
        return -1;
    }
    PyObject *word = read_text(state, PyTuple_GET_ITEM(pair, 1), "password");
    if (word == NULL) {
        Py_DECREF(name);
        return -1;
    }
    *user = name;
    *password = word;
    return 0;
}

int
tws_credentials_read(struct tws_state *state, PyObject *auth, PyObject **user,
                     PyObject **password)
{
    if (auth == NULL || auth == Py_None
        || PyObject_TypeCheck(auth, state->auth_type)) {
        return 0;
    }
    if (PyTuple_Check(auth)) {
        return read_pair(state, auth, user, password);
    }
    PyErr_Format(PyExc_TypeError,
                 "auth is %.200s, expected BasicAuth(...) or DigestAuth(...) "
                 "of a server, ('user', 'password') of a client, or None",
                 Py_TYPE(auth)->tp_name);
    return -1;
}
