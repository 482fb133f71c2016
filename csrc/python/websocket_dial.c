/* A websocket that goes the client's way: waiting for it, its end, and what it
 * raises. */
#include "python/websocket_handshake.h"

#include "python/errors.h"
#include "python/extensions_agreed.h"
#include "python/head_objects.h"
#include "loop/timers.h"
#include "net/dialing.h"

#include <errno.h>
#include <netdb.h>

/* --- the answer --- */

static int
finish(WebsocketObject *ws)
{
    struct tws_dialing *dialing = ws->dialing;
    struct tws_http_head head;
    struct tws_error err;
    pthread_mutex_lock(&ws->guard);
    tws_dialing_transport(dialing, &ws->transport);
    pthread_mutex_unlock(&ws->guard);
    if (tws_dialing_request(dialing, &head, &err) != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    Py_XSETREF(ws->request, tws_request_object(ws->state, &head, Py_None));
    if (ws->request == NULL) {
        return -1;
    }
    if (tws_dialing_answer(dialing, &head, &err) != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    Py_XSETREF(ws->response,
               tws_response_object(ws->state, &head, TWS_SPAN("")));
    if (ws->response == NULL) {
        return -1;
    }
    Py_XSETREF(ws->protocol,
               tws_handshake_protocol(tws_dialing_protocol(dialing)));
    if (ws->protocol == NULL) {
        return -1;
    }
    Py_XSETREF(ws->extensions,
               tws_extensions_judge_answer(ws->state, ws->offer,
                                           tws_dialing_extensions(dialing),
                                           ws->response));
    if (ws->extensions == NULL
        || tws_websocket_begin(ws, TWS_CLIENT, tws_dialing_rest(dialing))
               < 0) {
        return -1;
    }
    return 0;
}

/* The pending HandshakeError tells whether it is a proxy's. Always -1. */
static int
mark_refusal(const WebsocketObject *ws)
{
    PyObject *error = PyErr_GetRaisedException();
    if (!tws_dialing_is_proxying(ws->dialing)
        || PyObject_SetAttrString(error, "by_proxy", Py_True) == 0) {
        PyErr_SetRaisedException(error);
    }
    else {
        Py_DECREF(error);
    }
    return -1;
}

/* TWS_HANDSHAKE_CHALLENGED, or -1 with an exception. */
static int
refused(WebsocketObject *ws, const struct tws_error *refusal)
{
    struct tws_http_head head;
    struct tws_error err;
    if (tws_dialing_answer(ws->dialing, &head, &err) != TWS_OK) {
        (void)tws_handshake_raise(ws, refusal, NULL, TWS_SPAN(""));
        return mark_refusal(ws);
    }
    /* A proxy is not told what is for the server. */
    if (ws->may_ask_again && !tws_dialing_is_proxying(ws->dialing)) {
        int answered =
            tws_challenge_take(&ws->challenge, ws->options, &head, ws->state);
        if (answered != 0) {
            return answered < 0 ? -1 : TWS_HANDSHAKE_CHALLENGED;
        }
    }
    (void)tws_handshake_raise(ws, refusal, &head,
                              tws_dialing_body(ws->dialing));
    return mark_refusal(ws);
}

/* type(number, text), text stolen. */
static void
raise_numbered(PyObject *type, int number, PyObject *text)
{
    PyObject *args = text == NULL ? NULL : Py_BuildValue("(iN)", number, text);
    if (args != NULL) {
        PyErr_SetObject(type, args);
        Py_DECREF(args);
    }
}

/* Says which stage it was, and with whom. Always -1. */
static int
raise_failed(WebsocketObject *ws, struct tws_error *err)
{
    if (tws_websocket_is_closing(ws)) {
        return tws_handshake_raise_closed(); /* it failed for that */
    }
    if (tws_websocket_raise_bridge(ws, false) < 0) {
        return -1;
    }
    int gai_error = tws_dialing_gai_error(ws->dialing);
    char stage[TWS_DIALING_STAGE];
    tws_dialing_stage(ws->dialing, stage);
    if (gai_error != 0) {
        raise_numbered(ws->state->gaierror, gai_error,
                       PyUnicode_FromFormat("%s failed: %s", stage,
                                            gai_strerror(gai_error)));
        return -1;
    }
    switch (err->status) {
    case TWS_OS:
        raise_numbered(
            PyExc_OSError, err->sys_errno,
            PyUnicode_FromFormat("%s failed: %s", stage, err->reason));
        return -1;
    case TWS_TLS:
        PyErr_Format(ws->state->SSLError, "%s failed: %s", stage, err->reason);
        return -1;
    default:
        err->http_status = 0; /* those of the parser are for servers */
        (void)tws_handshake_raise(ws, err, NULL, TWS_SPAN(""));
        return mark_refusal(ws);
    }
}

/* --- the steps --- */

/* Waits for what the dialing waits for. As dial_step(), but never 1. */
static int
await(WebsocketObject *ws, const struct tws_deadline *deadline)
{
    struct tws_wait waits[TWS_DIALING_WAITS];
    uint64_t until;
    struct tws_error refusal;
    char stage[TWS_DIALING_STAGE];
    struct tws_deadline patience = *deadline;
    if (patience.immediate
        && (tws_dialing_state(ws->dialing) == TWS_DIALING_RESOLVING
            || tws_dialing_fd(ws->dialing) < 0)) {
        /* As socket.connect(): select() could not tell when it is done. */
        patience =
            (struct tws_deadline){.at = ws->open_deadline, .immediate = false};
    }
    bool is_refused = tws_dialing_refusal(ws->dialing, &refusal);
    if (is_refused) {
        tws_handshake_hurry(ws, &patience);
    }
    size_t count = tws_dialing_wait(ws->dialing, waits, &until);
    int result = tws_handshake_wait(
        ws, waits, count, &patience, until,
        (waits[0].events & TWS_WAIT_WRITE) != 0 ? EINPROGRESS : EAGAIN);
    if (result != 0) {
        return result < 0 ? -1 : 0;
    }
    if (is_refused) {
        return refused(ws, &refusal);
    }
    if (tws_websocket_raise_bridge(ws, true) == 0) {
        tws_dialing_stage(ws->dialing, stage);
        PyErr_Format(PyExc_TimeoutError, "%s timed out", stage);
    }
    return -1;
}

/* 1: connected; 0: go on; TWS_HANDSHAKE_CHALLENGED; -1 with an exception. */
static int
dial_step(WebsocketObject *ws, const struct tws_deadline *deadline,
          bool *retryable)
{
    struct tws_error err;
    enum tws_dialing_step step;
    uint64_t end =
        ws->open_deadline < deadline->at ? ws->open_deadline : deadline->at;
    Py_BEGIN_ALLOW_THREADS
    step = tws_dialing_advance(ws->dialing, tws_clock_now(), end, &err);
    Py_END_ALLOW_THREADS
    switch (step) {
    case TWS_DIALING_REACHED:
        return tws_websocket_dress(ws, tws_dialing_fd(ws->dialing));
    case TWS_DIALING_STREAM:
        return tws_websocket_bridge(ws);
    case TWS_DIALING_CONNECTED:
        return finish(ws) < 0 ? -1 : 1;
    case TWS_DIALING_REFUSED:
        return refused(ws, &err);
    case TWS_DIALING_FAILED:
        *retryable = tws_dialing_state(ws->dialing) <= TWS_DIALING_CONNECTING;
        return raise_failed(ws, &err);
    case TWS_DIALING_WAIT:
        break;
    }
    return await(ws, deadline);
}

int
tws_handshake_dial(WebsocketObject *ws, const struct tws_deadline *deadline)
{
    bool retryable = false;
    int result = 0;
    ws->phase = TWS_PHASE_CONNECTING;
    while (result == 0) {
        result = dial_step(ws, deadline, &retryable);
    }
    if (result > 0) {
        tws_handshake_forget(ws);
        return result == TWS_HANDSHAKE_CHALLENGED ? result : 0;
    }
    if (deadline->immediate && !tws_websocket_is_closing(ws)
        && PyErr_ExceptionMatches(PyExc_BlockingIOError)) {
        return -1; /* to be called again */
    }
    if (retryable && !tws_websocket_is_closing(ws)) {
        tws_handshake_forget(ws);
        ws->phase = ws->bare ? TWS_PHASE_BARE : TWS_PHASE_FRESH;
    }
    else {
        tws_websocket_close(ws); /* half a handshake can't be repaired */
    }
    return -1;
}
