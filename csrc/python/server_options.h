/* The keyword arguments of `Server`: those it shares with `websocket`, which
 * become a struct tws_options, and what bounds a server beyond them. */
#ifndef TWS_PYTHON_SERVER_OPTIONS_H
#define TWS_PYTHON_SERVER_OPTIONS_H

#include "python/options.h"

/* Read once from the constructor's arguments, never changed. Sizes are
 * SIZE_MAX and times UINT64_MAX where there is no limit. */
struct tws_server_limits {
    size_t max_clients;
    size_t max_threads;
    size_t max_half_open;   /* handshakes of one address at a time */
    size_t high_water;      /* bytes in a client's send queue above which
                             * send() waits; not SIZE_MAX */
    size_t low_water;       /* and how few end the wait; below high_water */
    uint64_t ping_interval; /* nanoseconds of silence before a ping; not 0 */
    uint64_t ping_timeout;  /* nanoseconds for its answer; not 0 */
    uint64_t idle_timeout;  /* nanoseconds without a message; not 0 */
    uint64_t send_timeout;  /* nanoseconds a send() waits; may be 0 */
};

/* As given, borrowed; NULL where absent. */
struct tws_server_args {
    PyObject *max_clients;   /* int or None; NULL: None */
    PyObject *max_threads;   /* int; NULL: 1024 */
    PyObject *max_half_open; /* int or None; NULL: None */
    PyObject *max_queue;     /* int bytes; NULL: 1 MiB */
    PyObject *low_water;     /* int bytes or None; NULL: a quarter */
    PyObject *ping_interval; /* seconds or None; NULL: 20 */
    PyObject *ping_timeout;  /* seconds or None; NULL: 20 */
    PyObject *idle_timeout;  /* seconds or None; NULL: None */
    PyObject *send_timeout;  /* seconds or None; NULL: 30 */
};

/* Docstring of the type, whose signature is what is parsed here. */
extern const char tws_server_doc[];

/* Sorts the arguments of Server.__init__(); all that is set is borrowed. -1
 * with TypeError. The values are looked at by tws_options_new() and
 * tws_server_limits_from(). */
int tws_server_args_parse(PyObject *args, PyObject *kwargs,
                          struct tws_option_args *options,
                          struct tws_server_args *limits);

/* -1 with TypeError or ValueError that names the argument. */
int tws_server_limits_from(const struct tws_server_args *args,
                           struct tws_server_limits *limits);

#endif /* TWS_PYTHON_SERVER_OPTIONS_H */
