/* TLS of a websocket: enable_ssl(), and what a connection tells of it. */
#include "python/websocket_parts.h"

#include "python/errors.h"
#include "python/served.h"
#include "python/tls_bridge.h"
#include "python/tls_context_type.h"
#include "net/dialing.h"

#include <stdio.h>
#include <stdlib.h>

const char tws_websocket_enable_ssl_doc[] = PyDoc_STR(
    "enable_ssl($self, /, context=None, **ssl_args)\n--\n\n"
    "Encrypt the connection with TLS; to be called before connect(),\n"
    "listen() or handshake().\n\n"
    "context              an ssl.SSLContext, used through Python's ssl\n"
    "                     module: slower than TLS by twspy itself. Beside it\n"
    "                     only server_hostname may be given\n"
    "certfile, keyfile    PEM files: own certificate with its chain, and its\n"
    "                     key, which may be in certfile. A listener needs\n"
    "                     them, a client only where it is asked for them\n"
    "password             of the key: str, bytes, or a function that returns\n"
    "                     it\n"
    "cafile, capath       PEM file or directory of trusted authorities; with\n"
    "                     neither those of the system\n"
    "ciphers              of TLS 1.2, as OpenSSL's cipher lists\n"
    "minimum_version      ssl.TLSVersion.TLSv1_2 (default) or TLSv1_3\n"
    "alpn                 protocols for ALPN, an iterable of str\n"
    "server_hostname      of a client: the name or address that the server's\n"
    "                     certificate must be for; the host of connect()\n"
    "verify               of a client: False trusts any server\n"
    "require_client_cert  of a listener: clients need a trusted certificate\n"
    "certificates         of a listener: {host name: (certfile, keyfile)},\n"
    "                     chosen by what the client asks for (SNI)\n\n"
    "What a listener accepts is encrypted, too. TLS is 1.2 or newer (RFC\n"
    "5246, RFC 8446); certificates are verified and sessions resumed.\n\n"
    "Raises TypeError and ValueError that name the argument, here or where\n"
    "it turns out whether this is a client or a listener; SSLError where a\n"
    "certificate or key can't be used, OSError where it can't be read.");

PyObject *
tws_websocket_enable_ssl_method(PyObject *self, PyObject *args,
                                PyObject *kwargs)
{
    WebsocketObject *ws = tws_websocket_of(self);
    if (tws_websocket_check(ws,
                            TWS_PHASES(TWS_PHASE_BARE)
                                | TWS_PHASES(TWS_PHASE_FRESH)
                                | TWS_PHASES(TWS_PHASE_LISTENING),
                            "enable_ssl()")
        < 0) {
        return NULL;
    }
    if (ws->ssl != NULL || ws->acceptor != NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        ws->ssl != NULL
                            ? "enable_ssl() was called before"
                            : "enable_ssl() after accept(): call it before");
        return NULL;
    }
    PyObject *ssl = PyObject_Call(ws->state->SSLSettings, args, kwargs);
    if (ssl == NULL) {
        return NULL;
    }
    if (ws->phase == TWS_PHASE_LISTENING) {
        /* What is wrong with it shows here and not at the first client. */
        PyObject *context = tws_websocket_ssl_context(ws, ssl, TWS_SERVER);
        if (context == NULL) {
            Py_DECREF(ssl);
            return NULL;
        }
        Py_DECREF(context);
    }
    ws->ssl = ssl;
    Py_RETURN_NONE;
}

PyObject *
tws_websocket_ssl_context(const WebsocketObject *ws, PyObject *ssl,
                          enum tws_role role)
{
    PyObject *context =
        PyObject_CallMethodOneArg(ssl, ws->state->str_context_for,
                                  role == TWS_SERVER ? Py_True : Py_False);
    return context;
}

int
tws_websocket_server_hostname(const WebsocketObject *ws, char *host,
                              size_t size)
{
    int result = -1;
    PyObject *name = PyObject_GetAttr(ws->ssl, ws->state->str_server_hostname);
    if (name == NULL) {
        return -1;
    }
    Py_ssize_t length;
    const char *text =
        name == Py_None ? "" : PyUnicode_AsUTF8AndSize(name, &length);
    if (text != NULL && strlen(text) < size) {
        if (name != Py_None) {
            memcpy(host, text, strlen(text) + 1);
        }
        result = 0;
    }
    else if (text != NULL) {
        PyErr_Format(PyExc_ValueError,
                     "server_hostname has %zu bytes, expected at most %zu",
                     strlen(text), size - 1);
    }
    Py_DECREF(name);
    return result;
}

/* --- the beginning --- */

/* The socket object gives its descriptor away and gets another one; meanwhile
 * close() finds a websocket that has none yet. */
static int
begin_bridge(WebsocketObject *ws, PyObject *context, enum tws_role role,
             const char *host)
{
    int result = -1;
    PyObject *number = PyObject_CallMethod(ws->socket, "detach", NULL);
    long fd = number == NULL ? -1 : PyLong_AsLong(number);
    Py_XDECREF(number);
    if (fd < 0) {
        return -1;
    }
    int inner = (int)fd;
    pthread_mutex_lock(&ws->guard);
    PyObject *emptied = ws->socket;
    ws->socket = NULL;
    ws->transport.fd = -1;
    ws->bare = true;
    pthread_mutex_unlock(&ws->guard);
    Py_DECREF(emptied);
    /* A client's deadline is kept by who waits for the answer. */
    ws->bridge = tws_bridge_start(
        ws->state, context, &inner, role, host,
        role == TWS_SERVER ? ws->options->open_timeout : UINT64_MAX);
    if (ws->bridge != NULL) {
        result = tws_websocket_dress(ws, inner);
    }
    if (result < 0) {
        tws_websocket_close(ws); /* what it had is given away */
    }
    return result;
}

int
tws_websocket_start_tls(WebsocketObject *ws)
{
    struct tws_error err;
    int result = 0;
    if (ws->ssl == NULL) {
        return 0;
    }
    PyObject *context = tws_websocket_ssl_context(ws, ws->ssl, TWS_SERVER);
    if (context == NULL) {
        return -1;
    }
    struct tws_tls_context *native = tws_tls_context_in(ws->state, context);
    if (native == NULL) {
        result = begin_bridge(ws, context, TWS_SERVER, NULL);
    }
    else if (tws_tls_start(&ws->transport, native, NULL, NULL, &err)
             != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        result = -1;
    }
    Py_DECREF(context);
    return result;
}

/* --- of a client --- */

int
tws_websocket_prepare_tls(WebsocketObject *ws, struct tws_dialing *dialing,
                          const char *host, const char *peer)
{
    char name[TWS_HOST_MAX + 1];
    struct tws_error err;
    int result = -1;
    if (ws->ssl == NULL) {
        return 0;
    }
    (void)snprintf(name, sizeof(name), "%s", host);
    if (tws_websocket_server_hostname(ws, name, sizeof(name)) < 0) {
        return -1;
    }
    PyObject *context = tws_websocket_ssl_context(ws, ws->ssl, TWS_CLIENT);
    if (context == NULL) {
        return -1;
    }
    struct tws_tls_context *native = tws_tls_context_in(ws->state, context);
    if (native == NULL) {
        Py_XSETREF(ws->bridge_to, PyUnicode_FromString(name));
        result = ws->bridge_to == NULL ? -1 : 0;
    }
    else if (tws_dialing_secure(dialing, native, name, peer, &err) != TWS_OK) {
        (void)tws_raise(ws->state, &err);
    }
    else {
        result = 0;
    }
    Py_DECREF(context);
    return result;
}

int
tws_websocket_bridge(WebsocketObject *ws)
{
    if (ws->bridge_to == NULL) {
        return 0;
    }
    const char *host = PyUnicode_AsUTF8(ws->bridge_to);
    PyObject *context =
        host == NULL ? NULL
                     : tws_websocket_ssl_context(ws, ws->ssl, TWS_CLIENT);
    if (context == NULL) {
        return -1;
    }
    int result = begin_bridge(ws, context, TWS_CLIENT, host);
    Py_DECREF(context);
    if (result == 0) {
        tws_dialing_replace(ws->dialing, ws->transport.fd);
    }
    return result;
}

/* SSLError with what the bridge says as its cause. */
static void
raise_ssl(const WebsocketObject *ws, const char *what, PyObject *why)
{
    PyObject *error = NULL;
    PyObject *text =
        PyUnicode_FromFormat("%s %U failed: %S", what, ws->bridge_to, why);
    if (text != NULL) {
        error = PyObject_CallOneArg(ws->state->SSLError, text);
        Py_DECREF(text);
    }
    if (error != NULL) {
        PyException_SetCause(error, Py_NewRef(why)); /* steals */
        PyErr_SetRaisedException(error);
    }
}

int
tws_websocket_raise_bridge(WebsocketObject *ws, bool timed_out)
{
    int result = 0;
    if (ws->bridge == NULL || ws->bridge_to == NULL) {
        return 0;
    }
    PyObject *done = tws_bridge_get(ws->bridge, "handshake_done");
    PyObject *why = tws_bridge_get(ws->bridge, "error");
    if (done == NULL || why == NULL) {
        result = -1;
    }
    else if (PyExceptionInstance_Check(why)) {
        raise_ssl(ws, done == Py_True ? "TLS with" : "TLS handshake with",
                  why);
        result = -1;
    }
    else if (timed_out && done != Py_True) {
        PyErr_Format(PyExc_TimeoutError, "TLS handshake with %U timed out",
                     ws->bridge_to);
        result = -1;
    }
    else if (done != Py_True) {
        PyErr_Format(ws->state->SSLError,
                     "TLS handshake with %U failed: the server closed the "
                     "connection",
                     ws->bridge_to);
        result = -1;
    }
    Py_XDECREF(done);
    Py_XDECREF(why);
    return result;
}

/* --- what a connection tells --- */

/* The encryption on the way to the peer; NULL where there is none. A client
 * without enable_ssl() may have one with its proxy, which is another thing. */
static struct tws_tls *
tls_of(const WebsocketObject *ws)
{
    return ws->role == TWS_CLIENT && ws->ssl == NULL ? NULL
                                                     : ws->transport.tls;
}

/* False: it is not encrypted, or closed. */
static bool
read_info(WebsocketObject *ws, struct tws_tls_info *info)
{
    bool found = false;
    if (ws->phase == TWS_PHASE_SERVED) {
        return tws_served_tls_info(ws, info);
    }
    if (ws->phase != TWS_PHASE_OPEN || tws_websocket_enter(ws) < 0) {
        PyErr_Clear();
        return false;
    }
    if (tls_of(ws) != NULL) {
        tws_tls_read_info(tls_of(ws), info);
        found = true;
    }
    tws_websocket_leave(ws);
    return found;
}

PyObject *
tws_websocket_secure_get(PyObject *self, void *Py_UNUSED(closure))
{
    WebsocketObject *ws = tws_websocket_of(self);
    struct tws_tls_info info;
    return PyBool_FromLong(ws->ssl != NULL || ws->bridge != NULL
                           || read_info(ws, &info));
}

PyObject *
tws_websocket_cipher_get(PyObject *self, void *Py_UNUSED(closure))
{
    WebsocketObject *ws = tws_websocket_of(self);
    struct tws_tls_info info;
    if (ws->bridge != NULL) {
        return tws_bridge_get(ws->bridge, "cipher");
    }
    return read_info(ws, &info) ? tws_tls_cipher_object(&info)
                                : Py_NewRef(Py_None);
}

PyObject *
tws_websocket_version_get(PyObject *self, void *Py_UNUSED(closure))
{
    WebsocketObject *ws = tws_websocket_of(self);
    struct tws_tls_info info;
    if (ws->bridge != NULL) {
        return tws_bridge_get(ws->bridge, "version");
    }
    return read_info(ws, &info) ? PyUnicode_FromString(info.version)
                                : Py_NewRef(Py_None);
}

PyObject *
tws_websocket_alpn_get(PyObject *self, void *Py_UNUSED(closure))
{
    WebsocketObject *ws = tws_websocket_of(self);
    struct tws_tls_info info;
    if (ws->bridge != NULL) {
        return tws_bridge_get(ws->bridge, "selected_alpn");
    }
    if (!read_info(ws, &info) || info.alpn.length == 0) {
        Py_RETURN_NONE;
    }
    return PyUnicode_DecodeLatin1(info.alpn.data, (Py_ssize_t)info.alpn.length,
                                  NULL);
}

/* DER bytes, or None. */
static PyObject *
peer_der(WebsocketObject *ws)
{
    struct tws_error err;
    uint8_t *der = NULL;
    size_t length = 0;
    enum tws_status status = TWS_EOF;
    if (ws->bridge != NULL) {
        return tws_bridge_get(ws->bridge, "peer_certificate");
    }
    if (ws->phase == TWS_PHASE_SERVED) {
        status = tws_served_peer_certificate(ws, &der, &length, &err);
    }
    else if (ws->phase == TWS_PHASE_OPEN && tws_websocket_enter(ws) == 0) {
        if (tls_of(ws) != NULL) {
            status = tws_tls_peer_certificate(tls_of(ws), &der, &length, &err);
        }
        tws_websocket_leave(ws);
    }
    PyErr_Clear();
    if (status == TWS_EOF) {
        Py_RETURN_NONE;
    }
    if (status != TWS_OK) {
        return tws_raise(ws->state, &err);
    }
    PyObject *bytes =
        PyBytes_FromStringAndSize((const char *)der, (Py_ssize_t)length);
    free(der);
    return bytes;
}

PyObject *
tws_websocket_peer_certificate_get(PyObject *self, void *Py_UNUSED(closure))
{
    WebsocketObject *ws = tws_websocket_of(self);
    PyObject *der = peer_der(ws);
    if (der == NULL || der == Py_None) {
        return der;
    }
    PyObject *certificate =
        PyObject_CallOneArg(ws->state->read_certificate, der);
    Py_DECREF(der);
    return certificate;
}
