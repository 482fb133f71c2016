/* websocket.connect(): the client's side of the opening handshake. */
#include "python/websocket_handshake.h"

#include "python/address.h"
#include "python/destination.h"
#include "python/errors.h"
#include "python/extensions_agreed.h"
#include "python/tls_context_type.h"
#include "net/dialing.h"

#include <errno.h>
#include <stdio.h>

/* --- the request --- */

/* What was asked for can't be written down. */
static void
raise_unfit(WebsocketObject *ws, const struct tws_error *err)
{
    if (err->status == TWS_REFUSED) {
        PyErr_Format(PyExc_ValueError, "can't ask for a connection: %s",
                     err->reason);
    }
    else {
        (void)tws_raise(ws->state, err);
    }
}

/* The program's header fields, and what answers a challenge. -1 with
 * MemoryError. */
static int
add_fields(WebsocketObject *ws, struct tws_handshake_offer *offer)
{
    const struct tws_options *options = ws->options;
    struct tws_buffer *answer = &ws->challenge.answer;
    size_t count = options->field_count;
    offer->fields = options->field_spans;
    offer->field_count = count;
    if (tws_buffer_length(answer) == 0) {
        return 0;
    }
    struct tws_http_field *fields = PyMem_Calloc(count + 1, sizeof(fields[0]));
    if (fields == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (count > 0) {
        memcpy(fields, options->field_spans, count * sizeof(fields[0]));
    }
    fields[count] = (struct tws_http_field){
        .name = TWS_SPAN("Authorization"),
        .value = {.data = (const char *)tws_buffer_data(answer),
                  .length = tws_buffer_length(answer)},
    };
    PyMem_Free(ws->fields_asked);
    ws->fields_asked = fields;
    offer->fields = fields;
    offer->field_count = count + 1;
    return 0;
}

/* NULL with an exception. */
static struct tws_dialing *
make_dialing(WebsocketObject *ws, const char *host, size_t length)
{
    const struct tws_options *options = ws->options;
    struct tws_error err;
    struct tws_dialing *dialing = NULL;
    Py_ssize_t size;
    struct tws_handshake_offer offer = {
        .host = {.data = host, .length = length},
        .protocols = options->protocol_spans,
        .protocol_count = options->policy.protocol_count,
    };
    if (add_fields(ws, &offer) < 0) {
        return NULL;
    }
    offer.target.data = PyUnicode_AsUTF8AndSize(options->location, &size);
    if (offer.target.data == NULL) {
        return NULL;
    }
    offer.target.length = (size_t)size;
    if (options->origin != Py_None) {
        offer.origin.data = PyUnicode_AsUTF8AndSize(options->origin, &size);
        if (offer.origin.data == NULL) {
            return NULL;
        }
        offer.origin.length = (size_t)size;
    }
    /* For this attempt: what an extension remembers of another one is not
     * this one's. */
    Py_XSETREF(ws->offer, tws_extensions_offer(ws->state, ws->templates,
                                               &offer.extensions));
    if (ws->offer == NULL) {
        return NULL;
    }
    if (tws_dialing_new(&offer, &options->http, &dialing, &err) != TWS_OK) {
        raise_unfit(ws, &err);
    }
    return dialing;
}

/* From here on close() can interrupt it. */
static void
publish(WebsocketObject *ws, struct tws_dialing *dialing)
{
    pthread_mutex_lock(&ws->guard);
    ws->dialing = dialing;
    pthread_mutex_unlock(&ws->guard);
}

/* The context for a proxy that is reached by TLS: what enable_ssl() takes
 * without arguments. Borrowed from *owner, a new reference. */
static int
trust_platform(WebsocketObject *ws, struct tws_proxy *proxy, PyObject **owner)
{
    PyObject *settings = PyObject_CallNoArgs(ws->state->SSLSettings);
    if (settings == NULL) {
        return -1;
    }
    *owner = tws_websocket_ssl_context(ws, settings, TWS_CLIENT);
    Py_DECREF(settings);
    if (*owner == NULL) {
        return -1;
    }
    proxy->context = tws_tls_context_in(ws->state, *owner);
    return 0;
}

struct way {
    struct tws_destination to;
    struct tws_destination source;
    struct tws_proxy proxy;
    char proxy_host[TWS_HOST_MAX + 1];
    char user_agent[256];
    bool by_proxy;
    PyObject *context; /* strong; that proxy.context borrows from, or NULL */
    struct tws_reaching_options options;
};

/* A proxy is told the User-Agent that the server is told, if any. */
static void
copy_user_agent(const struct tws_options *options, struct way *way)
{
    for (size_t i = 0; i < options->field_count; i++) {
        struct tws_span value = options->field_spans[i].value;
        if (tws_span_equal_nocase(options->field_spans[i].name,
                                  TWS_SPAN("User-Agent"))
            && value.length < sizeof(way->user_agent)) {
            memcpy(way->user_agent, value.data, value.length);
            way->proxy.user_agent = way->user_agent;
            return;
        }
    }
}

static int
read_way(WebsocketObject *ws, PyObject *address, PyObject *proxy,
         PyObject *source, struct way *way)
{
    int family = AF_UNSPEC;
    socklen_t size = sizeof(family);
    *way = (struct way){.by_proxy = proxy != Py_None};
    if (!ws->bare) {
        (void)getsockopt(ws->transport.fd, SOL_SOCKET, SO_DOMAIN, &family,
                         &size);
    }
    way->options.family = family;
    way->options.protocol = ws->ip_protocol;
    if (tws_destination_read(address, family, &way->to) < 0) {
        return -1;
    }
    if (way->to.is_unix && (proxy != Py_None || source != Py_None)) {
        PyErr_SetString(PyExc_ValueError,
                        "proxy and source_address are not for AF_UNIX: "
                        "expected None");
        return -1;
    }
    if (source != Py_None) {
        if (tws_destination_read(source, family, &way->source) < 0) {
            return -1;
        }
        way->options.source_host = way->source.host;
        way->options.source_port = way->source.port;
    }
    if (way->by_proxy
        && tws_destination_read_proxy(proxy, &way->proxy, way->proxy_host)
               < 0) {
        return -1;
    }
    copy_user_agent(ws->options, way);
    return way->by_proxy && way->proxy.kind == TWS_PROXY_HTTPS
               ? trust_platform(ws, &way->proxy, &way->context)
               : 0;
}

/* What the Host field and a certificate call the server. */
static const char *
name_of(const struct way *way)
{
    if (way->to.is_unix) {
        return "localhost";
    }
    if (way->to.host[0] != '\0') {
        return way->to.host;
    }
    switch (way->options.family) {
    case AF_INET:
        return "127.0.0.1";
    case AF_INET6:
        return "::1";
    default:
        return "localhost";
    }
}

static int
begin_connect(WebsocketObject *ws, PyObject *address, PyObject *proxy,
              PyObject *source)
{
    struct way way;
    struct tws_error err;
    char field[TWS_HOST_FIELD_MAX + 1] = "localhost";
    char peer[TWS_HOST_MAX + 8];
    struct tws_dialing *dialing = NULL;
    int result = -1;
    if (read_way(ws, address, proxy, source, &way) < 0) {
        goto done;
    }
    const char *name = name_of(&way);
    (void)snprintf(peer, sizeof(peer), "%s:%u", name, (unsigned)way.to.port);
    if (!way.to.is_unix) {
        (void)tws_dialing_host_field(name, way.to.port, ws->ssl != NULL,
                                     field);
    }
    dialing = make_dialing(ws, field, strlen(field));
    if (dialing == NULL
        || tws_websocket_prepare_tls(ws, dialing, name,
                                     way.to.is_unix ? NULL : peer)
               < 0) {
        goto done;
    }
    if (ws->bridge_to != NULL && way.proxy.context != NULL) {
        PyErr_SetString(PyExc_ValueError,
                        "an ssl.SSLContext does not work through an https "
                        "proxy: give enable_ssl() arguments instead");
        goto done;
    }
    if (way.to.is_unix) {
        tws_dialing_by_address(dialing, ws->transport.fd, &way.to.address);
    }
    else if (tws_dialing_by_name(dialing, ws->transport.fd, way.to.host,
                                 way.to.port, way.by_proxy ? &way.proxy : NULL,
                                 &way.options, &err)
             != TWS_OK) {
        raise_unfit(ws, &err);
        goto done;
    }
    publish(ws, dialing);
    dialing = NULL;
    result = 0;
done:
    tws_dialing_free(dialing);
    Py_XDECREF(way.context);
    return result;
}

/* --- methods --- */

/* The host of a Host field: without the port, and the brackets of an IPv6
 * address. */
static void
read_name(const char *field, char name[TWS_HOST_MAX + 1])
{
    bool bracketed = field[0] == '[';
    if (bracketed) {
        field++;
    }
    int length = (int)strcspn(field, bracketed ? "]" : ":");
    (void)snprintf(name, TWS_HOST_MAX + 1, "%.*s", length, field);
}

int
tws_handshake_as_client(WebsocketObject *ws, PyObject *host,
                        struct tws_span initial)
{
    bool begins = ws->dialing == NULL;
    struct tws_deadline deadline = tws_handshake_deadline(ws, begins);
    ws->may_ask_again = false; /* the connection is the program's */
    PyObject *field = NULL;
    int result = -1;
    if (!begins) {
        return tws_handshake_dial(ws, &deadline);
    }
    if (host == Py_None) {
        struct tws_address peer;
        if (tws_address_of_peer(ws->transport.fd, &peer) < 0) {
            return -1;
        }
        field = peer.storage.ss_family == AF_UNIX
                    ? PyUnicode_FromString("localhost")
                    : tws_address_text(&peer);
    }
    else if (PyUnicode_Check(host)) {
        field = Py_NewRef(host);
    }
    else {
        PyErr_Format(PyExc_TypeError, "host is %.200s, expected str or None",
                     Py_TYPE(host)->tp_name);
    }
    Py_ssize_t length = 0;
    const char *text =
        field == NULL ? NULL : PyUnicode_AsUTF8AndSize(field, &length);
    struct tws_dialing *dialing =
        text == NULL || tws_handshake_check_initial(ws, initial) < 0
            ? NULL
            : make_dialing(ws, text, (size_t)length);
    char name[TWS_HOST_MAX + 1];
    if (dialing != NULL) {
        struct tws_error err;
        read_name(text, name);
        if (tws_websocket_prepare_tls(ws, dialing, name, NULL) < 0) {
            tws_dialing_free(dialing);
        }
        else if (tws_dialing_connected(dialing, &ws->transport, initial, &err)
                 == TWS_OK) {
            publish(ws, dialing);
            result = tws_handshake_dial(ws, &deadline);
        }
        else {
            raise_unfit(ws, &err);
            tws_dialing_free(dialing);
        }
    }
    Py_XDECREF(field);
    return result;
}

const char tws_websocket_connect_doc[] = PyDoc_STR(
    "connect($self, address, /, *, proxy=None, source_address=None)\n--\n\n"
    "Connect to a server and do the client's side of the opening handshake\n"
    "(RFC 6455 section 4.1).\n\n"
    "address is (host, port), or a path for AF_UNIX. '' as host means this\n"
    "machine. Where a name has several addresses they are tried in turn; of\n"
    "a websocket for any family (AF_UNSPEC) side by side, 250 ms apart (RFC\n"
    "8305).\n\n"
    "source_address is the own (host, port) to connect from; '' is any host\n"
    "and 0 any port. proxy is private: twspy.connect() takes a URL.\n\n"
    "The whole takes at most open_timeout and the websocket's timeout.\n\n"
    "Raises HandshakeError, with the answer's status, headers and body,\n"
    "where the server or a proxy refuses; socket.gaierror for an unknown\n"
    "host; SSLError; TimeoutError and OSError, which say at which stage.\n"
    "Where there was no TCP connection, connect() can be tried again, else\n"
    "the websocket is closed.\n\n"
    "On a non-blocking websocket BlockingIOError means that the call is to\n"
    "be repeated: with errno EINPROGRESS as soon as fileno() is writable,\n"
    "with EAGAIN as soon as it is readable. Look-ups of names do wait, and\n"
    "so does an AF_UNSPEC websocket until it has a socket: at most\n"
    "open_timeout.");

static int
connect_to(WebsocketObject *ws, PyObject *address, PyObject *proxy,
           PyObject *source)
{
    struct tws_address peer;
    bool begins = ws->dialing == NULL;
    struct tws_deadline deadline = tws_handshake_deadline(ws, begins);
    if (begins && !ws->bare) {
        if (tws_address_of_peer(ws->transport.fd, &peer) == 0) {
            errno = EISCONN;
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        PyErr_Clear();
    }
    if (begins) {
        tws_challenge_release(&ws->challenge);
        ws->may_ask_again = true;
    }
    for (;;) {
        struct tws_deadline patience = deadline;
        uint64_t open_deadline = ws->open_deadline;
        if (begins && begin_connect(ws, address, proxy, source) < 0) {
            return -1;
        }
        int result = tws_handshake_dial(ws, &patience);
        if (result != TWS_HANDSHAKE_CHALLENGED) {
            return result;
        }
        /* Over a new connection: few servers keep one that they refused. */
        if (tws_websocket_start_over(ws) < 0) {
            tws_websocket_close(ws);
            return -1;
        }
        ws->open_deadline = open_deadline; /* the refusal had less */
        begins = true;
    }
}

PyObject *
tws_websocket_connect_method(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "proxy", "source_address", NULL};
    WebsocketObject *ws = tws_websocket_of(self);
    PyObject *address;
    PyObject *proxy = Py_None;
    PyObject *source = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OO:connect", names,
                                     &address, &proxy, &source)
        || tws_websocket_check(ws,
                               TWS_PHASES(TWS_PHASE_BARE)
                                   | TWS_PHASES(TWS_PHASE_FRESH)
                                   | TWS_PHASES(TWS_PHASE_CONNECTING),
                               "connect()")
               < 0
        || tws_websocket_check_auth(ws, TWS_CLIENT, "connect()") < 0
        || tws_websocket_claim(ws, "connect()") < 0) {
        return NULL;
    }
    int result = connect_to(ws, address, proxy, source);
    tws_websocket_disclaim(ws);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}
