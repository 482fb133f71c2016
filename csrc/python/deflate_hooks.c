/* onsend() and onrecv() of the extensions that compress: where they stand
 * beside others, or a subclass is in use. */
#include "python/deflate_frames.h"
#include "python/deflate_type.h"
#include "python/errors.h"
#include "python/frame_type.h"

static int
check(const DeflateObject *self, PyObject *frame, const char *what)
{
    if (!PyObject_TypeCheck(frame, self->state->frame_type)) {
        PyErr_Format(PyExc_TypeError, "frame is %.200s, expected a Frame",
                     Py_TYPE(frame)->tp_name);
        return -1;
    }
    if (!self->agreed) {
        PyErr_Format(PyExc_RuntimeError,
                     "%s before anything is agreed on: it is for the instance "
                     "of a connection, after negotiate() or accept()",
                     what);
        return -1;
    }
    return 0;
}

/* Whoever has it may be waiting for the GIL. */
static void
lock(pthread_mutex_t *mutex)
{
    if (pthread_mutex_trylock(mutex) != 0) {
        Py_BEGIN_ALLOW_THREADS
        pthread_mutex_lock(mutex);
        Py_END_ALLOW_THREADS
    }
}

const char tws_deflate_onsend_doc[] = PyDoc_STR(
    "onsend($self, frame, /)\n"
    "--\n"
    "\n"
    "The compressed form of a frame, marked with rsv1.\n"
    "\n"
    "The frame is returned as it is where it is not to be compressed: below\n"
    "the threshold, of a control frame, with rsv1 set already (then it "
    "counts\n"
    "as compressed elsewhere), and for DeflateMessage a fragment of a "
    "message\n"
    "(RFC 7692 section 6.1). RuntimeError before negotiate() or accept().");

PyObject *
tws_deflate_onsend(PyObject *op, PyObject *frame)
{
    DeflateObject *self = (DeflateObject *)op;
    if (check(self, frame, "onsend()") < 0) {
        return NULL;
    }
    struct tws_compression *compression = self->compression;
    const FrameObject *given = (const FrameObject *)frame;
    struct tws_error err;
    PyObject *compressed = NULL;
    if (!tws_deflate_takes_frame(compression, frame)) {
        if ((given->rsv & TWS_RSV1) != 0) {
            tws_deflate_forget_sent(self->state, op);
        }
        return Py_NewRef(frame);
    }
    if (!tws_compression_wants(compression,
                               (size_t)PyBytes_GET_SIZE(given->payload),
                               (enum tws_compress)self->compress)) {
        return Py_NewRef(frame);
    }
    lock(&compression->lock);
    enum tws_status status =
        tws_deflate_frame(self->state, compression, frame, &compressed, &err);
    if (status == TWS_OK && compressed == NULL) {
        tws_compression_forget_sent(compression);
    }
    pthread_mutex_unlock(&compression->lock);
    return status == TWS_OK ? compressed : tws_raise(self->state, &err);
}

const char tws_deflate_onrecv_doc[] = PyDoc_STR(
    "onrecv($self, frame, /)\n"
    "--\n"
    "\n"
    "What a frame means: inflated where it is marked with rsv1, or goes on\n"
    "with a message that was, else as it is.\n"
    "\n"
    "Raises ProtocolError: 1002 where rsv1 is misplaced, 1007 for data that\n"
    "can't be inflated, 1009 where it makes more than max_size bytes, as "
    "soon\n"
    "as that shows. RuntimeError before negotiate() or accept().");

PyObject *
tws_deflate_onrecv(PyObject *op, PyObject *frame)
{
    DeflateObject *self = (DeflateObject *)op;
    if (check(self, frame, "onrecv()") < 0) {
        return NULL;
    }
    const FrameObject *given = (const FrameObject *)frame;
    PyObject *result = NULL;
    struct tws_error err = {.status = TWS_OK};
    lock(&self->receiving);
    if (!tws_inflate_takes(self->amid_message, given->opcode, given->rsv)) {
        result = Py_NewRef(frame);
    }
    else {
        err.status = tws_inflate_frame(self->state, self->compression,
                                       &self->amid_message, self->max_size,
                                       frame, &result, &err);
    }
    pthread_mutex_unlock(&self->receiving);
    return err.status == TWS_OK ? result : tws_raise(self->state, &err);
}
