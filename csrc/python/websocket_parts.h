/* What the files that implement `websocket` share among themselves. */
#ifndef TWS_PYTHON_WEBSOCKET_PARTS_H
#define TWS_PYTHON_WEBSOCKET_PARTS_H

#include "python/websocket_type.h"

#include "net/socket.h"
#include "protocol/http1.h"

/* Phases as a set. */
#define TWS_PHASES(phase) (1U << (phase))

static inline WebsocketObject *
tws_websocket_of(PyObject *self)
{
    return (WebsocketObject *)self;
}

/* websocket_life.c ----------------------------------------------------- */

/* 0 where ws->phase is in `allowed`; else -1 with the exception that says
 * why `what` ("recv()") can't be called: OSError with EBADF, ENOTCONN, EISCONN
 * or EINVAL, or RuntimeError for a served or half-made one. */
int tws_websocket_check(WebsocketObject *ws, unsigned allowed,
                        const char *what);

/* Keeps the descriptor open until the matching call; -1 with OSError where
 * it is closed. The second keeps a pending exception. */
int tws_websocket_enter(WebsocketObject *ws);
void tws_websocket_leave(WebsocketObject *ws);

/* Claims what only one thread may do at a time, and enters, also where there
 * is no descriptor yet. -1 with ConcurrencyError that names `what`, or
 * OSError. */
int tws_websocket_claim(WebsocketObject *ws, const char *what);
void tws_websocket_disclaim(WebsocketObject *ws);

/* connection_ahead.c: its descriptor is about to be closed, or given away. Who
 * watches it does so no more. */
void tws_ahead_release_descriptor(WebsocketObject *ws);
/* With the guard held: true where messages were read ahead. */
bool tws_ahead_holds(const WebsocketObject *ws);

/* True where close() was called, by whichever thread. */
bool tws_websocket_is_closing(WebsocketObject *ws);

/* Makes `fd` the websocket's own: -1 with an exception, the descriptor is
 * closed then. Timeout and phase are those of a new socket.socket. */
int tws_websocket_adopt(WebsocketObject *ws, int fd, int family, int type,
                        int proto);
/* The same for an existing socket.socket, by its detach(). */
int tws_websocket_take_over(WebsocketObject *ws, PyObject *sock);
/* The same for a new descriptor; none with AF_UNSPEC. */
int tws_websocket_open_socket(WebsocketObject *ws, int family, int proto);

/* The handshake is done: `rest` is what came behind it (copied). -1 with
 * MemoryError. */
int tws_websocket_begin(WebsocketObject *ws, enum tws_role role,
                        struct tws_span rest);

/* A descriptor error that means that the peer is gone. */
bool tws_websocket_is_lost(int sys_errno);
/* SocketClosed(1006) with `detail` (NULL: none); where *err is not NULL it
 * is the cause. Always -1. */
int tws_websocket_raise_lost(WebsocketObject *ws, const struct tws_error *err,
                             const char *detail);

/* The deadline of a blocking call that begins now. */
struct tws_deadline tws_websocket_deadline(const WebsocketObject *ws);

/* websocket_bare.c ----------------------------------------------------- */

/* Makes a websocket that has no descriptor before connect(). -1 with an
 * exception. */
int tws_websocket_stay_bare(WebsocketObject *ws, int proto);
/* Gives it the one that connect() has found, and which it owns, also where
 * this fails; timeout and phase stay. -1 with an exception. */
int tws_websocket_dress(WebsocketObject *ws, int fd);
/* Ends the connection of a connect() and makes the websocket fit for
 * another; the socket's options are those of a new one. -1 with an
 * exception. */
int tws_websocket_start_over(WebsocketObject *ws);

/* websocket_write.c ---------------------------------------------------- */

/* Writes on what is left of our own frames without waiting, where nobody
 * else does. False: that somebody does, or there is nothing left. */
bool tws_websocket_write_on(WebsocketObject *ws);

/* websocket_pack.c ----------------------------------------------------- */

/* Appends a frame, which a client masks. `first_byte`: FIN, reserved bits and
 * opcode as on the wire. -1 with an exception. */
int tws_websocket_pack_frame(WebsocketObject *ws, uint8_t first_byte,
                             struct tws_span payload, struct tws_buffer *out);

/* A message, or frame, that is to be cut into fragments. */
struct tws_cut {
    struct tws_span payload; /* what is left of it */
    size_t size; /* bytes in a fragment; SIZE_MAX: it stays whole */
    uint8_t first_byte;
    bool done;
};
/* The next fragment; false: that was all. */
bool tws_cut_next(struct tws_cut *cut, uint8_t *first_byte,
                  struct tws_span *part);
/* Appends all of them, one behind the other. -1 with an exception. */
int tws_websocket_pack_cut(WebsocketObject *ws, struct tws_cut cut,
                           struct tws_buffer *out);

/* websocket_deflate.c: where there is ws->compression ------------------ */

/* Compresses a message and sends it. A call that raises because nothing was
 * taken leaves no trace: what is sent next does not refer to it. */
int tws_websocket_send_deflated(WebsocketObject *ws, struct tws_cut cut,
                                struct tws_sending *sending,
                                const struct tws_deadline *deadline);
/* The same for a tuple of frames: what they say decides which. `fragment`:
 * bytes that messages are cut into once they are compressed, or 0. `sending`
 * may be NULL. */
int tws_websocket_send_frames_deflated(WebsocketObject *ws, PyObject *frames,
                                       size_t fragment,
                                       struct tws_sending *sending,
                                       enum tws_compress compress,
                                       const struct tws_deadline *deadline);
/* The same for a fragment of a message in pieces that is compressed. */
int tws_websocket_send_piece_deflated(WebsocketObject *ws, uint8_t first_byte,
                                      const struct tws_span parts[2],
                                      struct tws_sending *sending,
                                      const struct tws_deadline *deadline);

/* Whether a frame that is being received is. */
bool tws_websocket_is_compressed(const WebsocketObject *ws,
                                 const struct tws_frame_header *header);
/* Puts what *frame means in its place (strong; NULL after a failure). -1 with
 * an exception. */
int tws_websocket_inflate(WebsocketObject *ws, PyObject **frame);

/* websocket_read.c ----------------------------------------------------- */

/* Keeps in mind that the stream is broken, and raises. Always -1. */
int tws_websocket_raise_broken(WebsocketObject *ws,
                               const struct tws_error *err);

/* websocket_send.c ----------------------------------------------------- */

/* Calls `hooks` (NULL: none) in turn; steals `frame`. NULL with what a hook
 * raised, or TypeError where one returned no Frame. */
PyObject *tws_websocket_run_hooks(WebsocketObject *ws, PyObject *hooks,
                                  PyObject *frame, const char *which);

/* websocket_auth.c ----------------------------------------------------- */

/* -1 with TypeError where `auth` is of the other side than `role`; `what` is
 * the call that is about to do the handshake. */
int tws_websocket_check_auth(WebsocketObject *ws, enum tws_role role,
                             const char *what);

/* Who asks for an upgrade that the policy allows? 1 with *username (strong;
 * NULL where nobody is asked); 0: refused, with the whole `answer` (the
 * caller releases it) and why in *refusal; -1 with an exception that is no
 * Exception, or MemoryError. What the program's function raises is logged, and
 * the answer is 500. */
int tws_websocket_authenticate(WebsocketObject *ws,
                               const struct tws_http_head *head,
                               PyObject **username, struct tws_buffer *answer,
                               struct tws_error *refusal);

/* Which of the extensions that it offers are agreed on? 1 with *judged, a new
 * reference for tws_extensions_unpack(); 0 and -1 as above. */
int tws_websocket_negotiate(WebsocketObject *ws,
                            const struct tws_http_head *head,
                            PyObject **judged, struct tws_buffer *answer,
                            struct tws_error *refusal);

/* Methods and their docstrings ----------------------------------------- */

#define TWS_WEBSOCKET_NOARGS(X)                                               \
    X(accept)                                                                 \
    X(close)                                                                  \
    X(detach)                                                                 \
    X(fileno)                                                                 \
    X(getblocking)                                                            \
    X(getpeername)                                                            \
    X(getsockname)                                                            \
    X(gettimeout)                                                             \
    X(pending)                                                                \
    X(recv)
#define TWS_WEBSOCKET_ONEARG(X)                                               \
    X(bind)                                                                   \
    X(recvn)                                                                  \
    X(setblocking)                                                            \
    X(settimeout)                                                             \
    X(shutdown)
#define TWS_WEBSOCKET_VARARGS(X)                                              \
    X(getsockopt)                                                             \
    X(setsockopt)
#define TWS_WEBSOCKET_KEYWORDS(X)                                             \
    X(add_hook)                                                               \
    X(connect)                                                                \
    X(enable_ssl)                                                             \
    X(handshake)                                                              \
    X(listen)

#define X(name)                                                               \
    extern const char tws_websocket_##name##_doc[];                           \
    PyObject *tws_websocket_##name##_method(PyObject *self, PyObject *arg);
TWS_WEBSOCKET_NOARGS(X)
TWS_WEBSOCKET_ONEARG(X)
TWS_WEBSOCKET_VARARGS(X)
#undef X
#define X(name)                                                               \
    extern const char tws_websocket_##name##_doc[];                           \
    PyObject *tws_websocket_##name##_method(PyObject *self, PyObject *args,   \
                                            PyObject *kwargs);
TWS_WEBSOCKET_KEYWORDS(X)
#undef X
extern const char tws_websocket_send_doc[];
PyObject *tws_websocket_send_method(PyObject *self, PyObject *const *args,
                                    Py_ssize_t count);

/* websocket_tls.c ------------------------------------------------------- */

/* The context of enable_ssl()'s settings for one side: a _TLSContext or an
 * ssl.SSLContext. New reference, or NULL with an exception. */
PyObject *tws_websocket_ssl_context(const WebsocketObject *ws, PyObject *ssl,
                                    enum tws_role role);
/* The name that the settings give; leaves *host alone where they give none.
 * -1 with an exception. */
int tws_websocket_server_hostname(const WebsocketObject *ws, char *host,
                                  size_t size);
/* Encrypts a connected websocket for handshake(server=True), where
 * enable_ssl() was called. -1 with an exception. */
int tws_websocket_start_tls(WebsocketObject *ws);
/* Of a client, where enable_ssl() was called: has a dialing that has not begun
 * encrypt what it will reach, or, with an ssl.SSLContext, sets ws->bridge_to.
 * `host` is who the certificate must be for, unless the settings say another
 * name; `peer` as in tws_tls_start(). -1 with an exception. */
int tws_websocket_prepare_tls(WebsocketObject *ws, struct tws_dialing *dialing,
                              const char *host, const char *peer);
/* ws->dialing has a stream: puts a bridge over it, where ws->bridge_to says
 * so. -1 with an exception. */
int tws_websocket_bridge(WebsocketObject *ws);
/* A handshake that went over a bridge has failed. -1 with the exception where
 * it was that of TLS, else 0. */
int tws_websocket_raise_bridge(WebsocketObject *ws, bool timed_out);

PyObject *tws_websocket_secure_get(PyObject *self, void *closure);
PyObject *tws_websocket_cipher_get(PyObject *self, void *closure);
PyObject *tws_websocket_version_get(PyObject *self, void *closure);
PyObject *tws_websocket_alpn_get(PyObject *self, void *closure);
PyObject *tws_websocket_peer_certificate_get(PyObject *self, void *closure);

/* client, address = sock.accept(); see websocket_accept.c. */
PyObject *tws_websocket_iter(PyObject *self);

/* family, type and proto; `closure` is the name of the attribute. */
PyObject *tws_websocket_kind_get(PyObject *self, void *closure);

#endif /* TWS_PYTHON_WEBSOCKET_PARTS_H */
