/* What a `websocket` or a `Server` was configured with. Read once from the
 * constructor's arguments, never changed, and shared by all that a listener
 * accepts: reference-counted, as it holds only objects that can't be part
 * of a reference cycle (str, tuples of str). */
#ifndef TWS_PYTHON_OPTIONS_H
#define TWS_PYTHON_OPTIONS_H

#include "python/state.h"

#include "protocol/assembler.h"
#include "protocol/handshake_server.h"

#include <stdatomic.h>

struct tws_options {
    atomic_uint references;
    PyObject *protocols;       /* tuple of str */
    PyObject *origin;          /* str, or None */
    PyObject *location;        /* str */
    PyObject *trusted_origins; /* tuple of str, or the str 'same-origin' */
    PyObject *locations;       /* tuple of str */
    PyObject *fields; /* tuple of bytes, name and value by turns: `headers` */
    PyObject *user;   /* str of a client's `auth`; NULL: there is none */
    PyObject *password; /* str; a secret */
    struct tws_message_limits message;
    struct tws_http_limits http;
    uint64_t open_timeout;  /* nanoseconds; UINT64_MAX: none */
    uint64_t close_timeout; /* nanoseconds; UINT64_MAX: none */

    /* The same for the core: spans borrowed from the objects above. */
    struct tws_handshake_policy policy;
    struct tws_span *protocol_spans;    /* owned; policy.protocols, too */
    struct tws_span *location_spans;    /* owned */
    struct tws_span *origin_spans;      /* owned */
    struct tws_http_field *field_spans; /* owned */
    size_t field_count;
};

/* Names of the constructor's arguments that end up here, in the order of
 * struct tws_option_args; for PyArg_ParseTupleAndKeywords. */
struct tws_option_args {
    PyObject *protocols;       /* iterable of str; NULL: () */
    PyObject *extensions;      /* these two are for tws_extensions_read() */
    PyObject *compression;     /* and the caller */
    PyObject *origin;          /* str or None; NULL: None */
    PyObject *location;        /* str; NULL: '/' */
    PyObject *trusted_origins; /* iterable of str or 'same-origin' */
    PyObject *locations;       /* iterable of str */
    PyObject *auth; /* Auth, which the caller keeps; a pair of str; or None */
    PyObject *headers;          /* Headers, mapping or iterable of pairs */
    PyObject *max_size;         /* int bytes, None: no limit; NULL: 1 MiB */
    PyObject *open_timeout;     /* seconds or None; NULL: 10 */
    PyObject *close_timeout;    /* seconds or None; NULL: 2 */
    PyObject *max_head_size;    /* int bytes; NULL: 16 KiB */
    PyObject *max_header_lines; /* int up to TWS_HTTP_FIELDS_MAX; NULL: 128 */
};

/* A new set of options with one reference, or NULL with TypeError or
 * ValueError that names the argument. */
struct tws_options *tws_options_new(struct tws_state *state,
                                    const struct tws_option_args *args);
struct tws_options *tws_options_retain(struct tws_options *options);
void tws_options_release(struct tws_options *options); /* NULL is allowed */

/* Seconds (a number, or None for no limit) to nanoseconds; -1 with TypeError
 * or ValueError that names the argument. */
int tws_timeout_from_object(PyObject *seconds, const char *name,
                            uint64_t *timeout_ns);

/* The same for a constructor's argument: a bool is refused, and what was not
 * given (NULL) leaves the default in *timeout_ns alone. `zero`: 0 is
 * allowed. */
int tws_option_seconds(PyObject *given, const char *name, bool zero,
                       uint64_t *timeout_ns);

/* Which ints an argument may be. */
struct tws_size_range {
    size_t least;
    size_t most;      /* PY_SSIZE_T_MAX: as large as a size can be */
    const char *none; /* what None stands for, as in "no limit"; NULL where
                       * None is refused */
};

/* An int in that range, which a bool is not, to a size; None to SIZE_MAX. What
 * was not given (NULL) leaves the default in *size alone. -1 with TypeError
 * or ValueError that names the argument. */
int tws_option_size(PyObject *given, const char *name,
                    const struct tws_size_range *range, size_t *size);

#endif /* TWS_PYTHON_OPTIONS_H */
