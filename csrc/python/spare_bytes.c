#include "python/spare_bytes.h"

/* Without a GIL another thread may take a reference at any time, and what
 * bytes look like in versions to come nobody knows. */
#if !defined(Py_GIL_DISABLED) && PY_VERSION_HEX < 0x030F0000

enum {
    SHORTEST = 480,      /* smaller ones are from CPython's pools */
    LONGEST = 64 * 1024, /* is kept until another one comes */
    UNUSED = 8,          /* at most an eighth of the memory, as the program
                          * may keep the object */
};

/* No more than this one reference: nobody can tell that it is not new. */
static bool
fits(const struct tws_state *state, Py_ssize_t length)
{
    PyObject *spare = state->spare_bytes;
    return spare != NULL && Py_REFCNT(spare) == 1
           && length <= state->spare_room
           && length >= state->spare_room - state->spare_room / UNUSED;
}

static void
make_new(PyObject *bytes, Py_ssize_t length)
{
    Py_SET_SIZE((PyVarObject *)bytes, length);
    PyBytes_AS_STRING(bytes)[length] = '\0';
    /* Deprecated for those who want to know the hash: it is of the content
     * before. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    ((PyBytesObject *)bytes)->ob_shash = -1;
#pragma GCC diagnostic pop
}

PyObject *
tws_spare_bytes(struct tws_state *state, size_t length)
{
    Py_ssize_t size = (Py_ssize_t)length;
    if (size < SHORTEST || size > LONGEST) {
        return PyBytes_FromStringAndSize(NULL, size);
    }
    if (TWS_LIKELY(fits(state, size))) {
        make_new(state->spare_bytes, size);
        return Py_NewRef(state->spare_bytes);
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes != NULL) {
        Py_XSETREF(state->spare_bytes, Py_NewRef(bytes));
        state->spare_room = size;
    }
    return bytes;
}

#else

PyObject *
tws_spare_bytes(struct tws_state *state, size_t length)
{
    (void)state;
    return PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
}

#endif
