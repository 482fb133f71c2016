#include "python/server_options.h"

#define SECOND ((uint64_t)1000000000)

const char tws_server_doc[] = PyDoc_STR(
    "Server(*, protocols=(), extensions=(), trusted_origins=(),\n"
    "       locations=(), auth=None, max_size=1048576, open_timeout=10.0,\n"
    "       close_timeout=2.0, max_head_size=16384, max_header_lines=128,\n"
    "       max_clients=None, max_threads=1024, max_half_open=None,\n"
    "       max_queue=1048576, low_water=None, ping_interval=20.0,\n"
    "       ping_timeout=20.0, idle_timeout=None, send_timeout=30.0,\n"
    "       compression=None)\n"
    "--\n"
    "\n"
    "The C half of twspy.Server: the loops over bound sockets.");

int
tws_server_args_parse(PyObject *args, PyObject *kwargs,
                      struct tws_option_args *options,
                      struct tws_server_args *limits)
{
    static char *names[] = {
        "protocols",        "extensions",    "trusted_origins",
        "locations",        "auth",          "max_size",
        "open_timeout",     "close_timeout", "max_head_size",
        "max_header_lines", "max_clients",   "max_threads",
        "max_half_open",    "max_queue",     "low_water",
        "ping_interval",    "ping_timeout",  "idle_timeout",
        "send_timeout",     "compression",   NULL,
    };
    *options = (struct tws_option_args){.protocols = NULL};
    *limits = (struct tws_server_args){.max_clients = NULL};
    return PyArg_ParseTupleAndKeywords(
               args, kwargs, "|$OOOOOOOOOOOOOOOOOOOO:Server", names,
               &options->protocols, &options->extensions,
               &options->trusted_origins, &options->locations, &options->auth,
               &options->max_size, &options->open_timeout,
               &options->close_timeout, &options->max_head_size,
               &options->max_header_lines, &limits->max_clients,
               &limits->max_threads, &limits->max_half_open,
               &limits->max_queue, &limits->low_water, &limits->ping_interval,
               &limits->ping_timeout, &limits->idle_timeout,
               &limits->send_timeout, &options->compression)
               ? 0
               : -1;
}

static int
set_water_marks(const struct tws_server_args *args,
                struct tws_server_limits *limits)
{
    static const struct tws_size_range queue = {.least = 1,
                                                .most = PY_SSIZE_T_MAX};
    limits->high_water = 1 << 20;
    if (tws_option_size(args->max_queue, "max_queue", &queue,
                        &limits->high_water)
        < 0) {
        return -1;
    }
    const struct tws_size_range below = {.most = limits->high_water - 1,
                                         .none = "a quarter of max_queue"};
    limits->low_water = SIZE_MAX;
    if (tws_option_size(args->low_water, "low_water", &below,
                        &limits->low_water)
        < 0) {
        return -1;
    }
    if (limits->low_water == SIZE_MAX) {
        limits->low_water = limits->high_water / 4;
    }
    return 0;
}

static int
set_counts(const struct tws_server_args *args,
           struct tws_server_limits *limits)
{
    static const struct tws_size_range count = {.least = 1,
                                                .most = PY_SSIZE_T_MAX};
    static const struct tws_size_range limit = {
        .least = 1, .most = PY_SSIZE_T_MAX, .none = "no limit"};
    limits->max_clients = SIZE_MAX;
    limits->max_threads = 1024;
    limits->max_half_open = SIZE_MAX;
    if (tws_option_size(args->max_clients, "max_clients", &limit,
                        &limits->max_clients)
            < 0
        || tws_option_size(args->max_threads, "max_threads", &count,
                           &limits->max_threads)
               < 0
        || tws_option_size(args->max_half_open, "max_half_open", &limit,
                           &limits->max_half_open)
               < 0) {
        return -1;
    }
    return 0;
}

static int
set_times(const struct tws_server_args *args, struct tws_server_limits *limits)
{
    limits->ping_interval = 20 * SECOND;
    limits->ping_timeout = 20 * SECOND;
    limits->idle_timeout = UINT64_MAX;
    limits->send_timeout = 30 * SECOND;
    if (tws_option_seconds(args->ping_interval, "ping_interval", false,
                           &limits->ping_interval)
            < 0
        || tws_option_seconds(args->ping_timeout, "ping_timeout", false,
                              &limits->ping_timeout)
               < 0
        || tws_option_seconds(args->idle_timeout, "idle_timeout", false,
                              &limits->idle_timeout)
               < 0
        || tws_option_seconds(args->send_timeout, "send_timeout", true,
                              &limits->send_timeout)
               < 0) {
        return -1;
    }
    return 0;
}

int
tws_server_limits_from(const struct tws_server_args *args,
                       struct tws_server_limits *limits)
{
    if (set_counts(args, limits) < 0 || set_water_marks(args, limits) < 0
        || set_times(args, limits) < 0) {
        return -1;
    }
    return 0;
}
