/* What a websocket on a server's side asks the program at its handshake: who
 * the client is, and which extensions to use. */
#include "python/websocket_parts.h"

#include "python/errors.h"
#include "python/extensions_agreed.h"
#include "protocol/handshake_server.h"

int
tws_websocket_check_auth(WebsocketObject *ws, enum tws_role role,
                         const char *what)
{
    if (role == TWS_CLIENT && ws->auth != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "%s by a websocket whose auth is a %.200s, which is what "
                     "a server asks with: a client gives auth=('user', "
                     "'password')",
                     what, Py_TYPE(ws->auth)->tp_name);
        return -1;
    }
    if (role == TWS_SERVER && ws->options->user != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "%s by a websocket whose auth is a tuple, which is what "
                     "a client gives: a server takes BasicAuth(check) or "
                     "DigestAuth(password_of)",
                     what);
        return -1;
    }
    return 0;
}

/* Writes the answer to what the program has raised, 500, and logs that. -1
 * with an exception where it is no Exception, or can't be logged; the answer
 * is there nevertheless, unless there was no memory for it. */
static int
answer_failure(WebsocketObject *ws, PyObject *source, const char *reason,
               struct tws_buffer *answer, struct tws_error *refusal)
{
    struct tws_error err;
    PyObject *error = PyErr_GetRaisedException();
    (void)tws_error_refused(refusal, 500, "%s", reason);
    if (tws_handshake_write_refusal(answer, refusal->http_status,
                                    refusal->reason, false, &err)
        != TWS_OK) {
        tws_buffer_release(answer);
        Py_DECREF(error);
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    if (!PyErr_GivenExceptionMatches(error, PyExc_Exception)) {
        PyErr_SetRaisedException(error);
        return -1;
    }
    PyObject *result = PyObject_CallFunctionObjArgs(ws->state->log_unhandled,
                                                    source, error, NULL);
    Py_DECREF(error);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
tws_websocket_authenticate(WebsocketObject *ws,
                           const struct tws_http_head *head,
                           PyObject **username, struct tws_buffer *answer,
                           struct tws_error *refusal)
{
    struct tws_verdict verdict;
    *username = NULL;
    if (ws->auth == NULL) {
        return 1;
    }
    struct tws_auth_request request = tws_auth_request_of(head);
    if (tws_auth_judge(ws->auth, &request, &verdict) < 0) {
        return answer_failure(ws, (PyObject *)ws->auth,
                              "the server failed to look at the credentials",
                              answer, refusal);
    }
    if (verdict.username != NULL) {
        *username = verdict.username;
        return 1;
    }
    *refusal = verdict.refusal;
    if (tws_auth_write_refusal(ws->auth, &verdict, answer) < 0) {
        tws_buffer_release(answer); /* a part of it is none */
        return -1;
    }
    return 0;
}

int
tws_websocket_negotiate(WebsocketObject *ws, const struct tws_http_head *head,
                        PyObject **judged, struct tws_buffer *answer,
                        struct tws_error *refusal)
{
    *judged = tws_extensions_judge_offers(ws->state, ws->templates, head);
    if (*judged != NULL) {
        return 1;
    }
    return answer_failure(ws, (PyObject *)ws,
                          "the server failed to agree on extensions", answer,
                          refusal);
}
