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

/* Logs what the program has raised; the answer is 500 then. -1 where it is no
 * Exception, or can't be logged. */
static int
answer_failure(WebsocketObject *ws, PyObject *source, const char *reason,
               struct tws_buffer *answer, struct tws_error *refusal)
{
    struct tws_error err;
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyObject *error = PyErr_GetRaisedException();
    PyObject *result = PyObject_CallFunctionObjArgs(ws->state->log_unhandled,
                                                    source, error, NULL);
    Py_DECREF(error);
    if (result == NULL) {
        return -1;
    }
    Py_DECREF(result);
    (void)tws_error_refused(refusal, 500, "%s", reason);
    if (tws_handshake_write_refusal(answer, refusal->http_status,
                                    refusal->reason, false, &err)
        != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    return 0;
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
    return tws_auth_write_refusal(ws->auth, &verdict, answer);
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
