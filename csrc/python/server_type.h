/* The C half of `Server`: owns the loop, calls the handlers. Threads,
 * signals and logging are in twspy/_runner.py and twspy/server.py. */
#ifndef TWS_PYTHON_SERVER_TYPE_H
#define TWS_PYTHON_SERVER_TYPE_H

#include "python/connection_type.h"
#include "python/server_options.h"

#include "engine/server.h"

typedef struct {
    PyObject_HEAD
    struct tws_state *state; /* borrowed */
    struct tws_options *options;
    struct tws_server_limits limits; /* once `options` is there */
    PyObject *socket;                /* strong; the listening socket.socket */
    struct tws_server *core;         /* owned; NULL until _loop_listen() */
    PyObject *runner;                /* strong; of twspy/_runner.py */
    uint64_t patience;               /* nanoseconds a stop waits for clients */
    PyObject *onclose; /* strong; callable whose signature was looked at */
    bool onclose_takes_message; /* what that found */
    bool tells_sent;            /* onsent() is to be called */
    bool foreign_origin_seen;   /* the warning is given once */
    bool accept_paused;         /* that warning, too */
    PyObject *exit; /* strong; SystemExit that a handler raised, or NULL */
    PyObject *dict;
    PyObject *weakrefs;
} ServerObject;

extern PyType_Spec tws_server_spec;

/* server_handlers.c: the engine's calls into Python. */
void tws_server_fill_handlers(ServerObject *server,
                              struct tws_handlers *handlers);

/* Calls server.<name>(client, argument); failures go to onerror(). */
void tws_server_call(ServerObject *server, PyObject *name, PyObject *client,
                     PyObject *argument);

/* A handler or hook raised: tells onerror(). `client` may be None. */
void tws_server_handler_failed(ServerObject *server, PyObject *client);

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
