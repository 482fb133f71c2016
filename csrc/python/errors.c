#include "python/errors.h"

#include <errno.h>

/* Raises type(text, *more) where `more` is stolen and may be NULL with an
 * exception set. */
static PyObject *
raise_with(PyObject *type, const char *text, PyObject *more)
{
    PyObject *exception = NULL;
    if (more == NULL) {
        return NULL;
    }
    exception = PyObject_CallFunction(type, "sO", text, more);
    if (exception != NULL) {
        PyErr_SetObject(type, exception);
        Py_DECREF(exception);
    }
    Py_DECREF(more);
    return NULL;
}

PyObject *
tws_raise(struct tws_state *state, const struct tws_error *err)
{
    switch (err->status) {
    case TWS_PROTOCOL:
        return raise_with(state->ProtocolError, err->reason,
                          PyLong_FromLong(err->close_code));
    case TWS_REFUSED:
        return raise_with(state->HandshakeError, err->reason,
                          PyLong_FromLong(err->http_status));
    case TWS_NOMEM:
        return PyErr_NoMemory();
    case TWS_OS:
        errno = err->sys_errno;
        return PyErr_SetFromErrno(PyExc_OSError);
    case TWS_OK:
    case TWS_AGAIN:
    case TWS_EOF:
        break;
    }
    PyErr_Format(PyExc_SystemError, "core status %d is not an error",
                 (int)err->status);
    return NULL;
}

PyObject *
tws_raise_closed(struct tws_state *state, uint16_t code,
                 struct tws_span reason)
{
    PyObject *text = PyUnicode_DecodeUTF8(
        reason.data, (Py_ssize_t)reason.length, "replace");
    if (text == NULL) {
        return NULL;
    }
    PyObject *exception =
        PyObject_CallFunction(state->SocketClosed, "iO", (int)code, text);
    if (exception != NULL) {
        PyErr_SetObject(state->SocketClosed, exception);
        Py_DECREF(exception);
    }
    Py_DECREF(text);
    return NULL;
}
