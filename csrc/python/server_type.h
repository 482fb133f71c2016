/* The C half of `Server`: owns the loops, calls the handlers. Threads,
 * signals and logging are in twspy/_runner.py and twspy/server.py. */
#ifndef TWS_PYTHON_SERVER_TYPE_H
#define TWS_PYTHON_SERVER_TYPE_H

#include "python/auth_type.h"
#include "python/connection_type.h"
#include "python/method_cache.h"
#include "python/server_options.h"

#include "engine/server.h"

struct tws_server_object;

/* One of a server's loops: the context of what the engine calls. */
struct tws_loop {
    struct tws_server_object *server; /* borrowed; it owns this */
    struct tws_server *core;          /* owned */
    unsigned index;
};

typedef struct tws_server_object {
    PyObject_HEAD
    struct tws_state *state; /* borrowed */
    struct tws_options *options;
    struct tws_server_limits limits; /* once `options` is there */
    struct tws_loop *loops;          /* owned; NULL until _loop_listen() */
    unsigned loop_count;             /* of those; 0 until then */
    _Atomic size_t places;           /* that clients of all loops have taken */
    PyObject *runner;                /* strong; of twspy/_runner.py */
    uint64_t patience;               /* nanoseconds a stop waits for clients */
    PyObject *ssl_context;           /* strong; ssl.SSLContext, or NULL */
    PyObject *bridges;               /* strong; of that: dict of the bridges of
                                      * connections that are no clients yet, by
                                      * descriptor; an old one goes when its number comes
                                      * again */
    AuthObject *auth;                /* strong; NULL: everybody may connect */
    PyObject
        *templates; /* strong; tuple of extensions that may be agreed on */
    struct tws_method_cache onmessage;
    PyObject *onclose; /* strong; callable whose signature was looked at */
    bool onclose_takes_message; /* what that found */
    bool tells_sent;            /* onsent() is to be called */
    bool asks_handshake;        /* onhandshake() is to be called */
    bool forked;                /* this process is a child of the server's */
    bool foreign_origin_seen;   /* the warning is given once */
    atomic_bool accept_paused;  /* that warning, too */
    PyObject *exit; /* strong; SystemExit that a handler raised, or NULL */
    PyObject *dict;
    PyObject *weakrefs;
} ServerObject;

extern PyType_Spec tws_server_spec;

/* server_handlers.c: the engine's calls into Python. */
void tws_server_fill_handlers(struct tws_loop *loop,
                              struct tws_handlers *handlers);

/* Calls server.<name>(client, argument); failures go to onerror(). */
void tws_server_call(ServerObject *server, PyObject *name, PyObject *client,
                     PyObject *argument);

/* A handler or hook raised: tells onerror(). `client` may be None. */
void tws_server_handler_failed(ServerObject *server, PyObject *client);

/* server_upgrade.c: a request for an upgrade that the policy allows. */
void tws_server_on_upgrade(ServerObject *server,
                           struct tws_handshake *handshake,
                           const struct tws_http_head *head,
                           const struct tws_handshake_request *request);

/* server_loops.c */
extern const char tws_server_listen_doc[];
PyObject *tws_server_listen(PyObject *self, PyObject *args);
extern const char tws_server_work_doc[];
PyObject *tws_server_work_loop(PyObject *self, PyObject *number);
/* False: __init__() was not called, RuntimeError is set. */
bool tws_server_is_ready(const ServerObject *server);
extern const char tws_server_tls_doc[];
PyObject *tws_server_tls(PyObject *self, PyObject *context);
/* Frees those of an array; NULL: there are none. */
void tws_server_free_loops(struct tws_loop *loops, unsigned count);
/* The engine's tws_server_stop() for each. */
void tws_server_stop_loops(ServerObject *server, uint16_t code,
                           struct tws_span reason, uint64_t patience);
/* The calling thread is about to wait for something of `core`, one of this
 * server's or not: whichever of the loops it drives goes on without it.
 * False: nobody drives that of `core` now. */
bool tws_server_before_wait_loops(ServerObject *server,
                                  struct tws_server *core);

/* server_fork.c */
extern const char tws_server_forget_doc[];
PyObject *tws_server_forget(PyObject *self, PyObject *ignored);
/* A handler has returned in such a child, or raised: ends the process. */
void tws_server_end_child(ServerObject *server);
/* 0, or -1 with RuntimeError: the clients are the parent's. */
int tws_server_check_process(const ServerObject *server);

/* server_stats.c */
extern const char tws_server_stats_doc[];
PyObject *tws_server_stats_object(PyObject *self, PyObject *ignored);

/* server_broadcast.c */
extern const char tws_server_broadcast_doc[];
PyObject *tws_server_broadcast(PyObject *self, PyObject *args,
                               PyObject *kwargs);
/* A new list of the open clients. */
PyObject *tws_server_clients(ServerObject *server);

#endif /* TWS_PYTHON_SERVER_TYPE_H */
