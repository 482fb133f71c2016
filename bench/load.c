/* Keeps messages in flight to an echo server, checks every echo, and prints
 * what came back as one line of JSON. Shares no code with what it measures:
 * the WebSocket client is its own. See bench/README.md. */
#include "load_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define DRAIN_TIME (10 * SECOND)
#define CLOSE_TIME (5 * SECOND)

enum {
    EVENTS = 256, /* ready connections looked at in one turn */
    CONNECTIONS_MAX = 0xffff,
};

/* The counts at one end of the measured time. */
struct mark {
    uint64_t time;
    uint64_t own_cpu;
    uint64_t messages;
    double server_cpu; /* seconds, -1 where it is not known */
};

/* The run ----------------------------------------------------------------- */

enum until { TIME_IS_UP, ALL_CAME_BACK, ALL_CLOSED };

static bool
is_done(const struct load *load, enum until until)
{
    return load->open == 0
           || (until == ALL_CAME_BACK && load->outstanding == 0);
}

static void
run(struct load *load, uint64_t time, enum until until)
{
    struct epoll_event events[EVENTS];
    uint64_t deadline = load_clock(CLOCK_MONOTONIC) + time;
    uint64_t now = deadline - time;
    while (now < deadline && !is_done(load, until)) {
        int wait = (int)((deadline - now) / (SECOND / 1000)) + 1;
        int count = epoll_wait(load->epoll, events, EVENTS, wait);
        if (count < 0 && errno != EINTR) {
            load_die("epoll_wait");
        }
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if ((events[i].events & EPOLLOUT) != 0) {
                load_push(load, peer);
            }
            if (peer->fd >= 0
                && (events[i].events & ~(uint32_t)EPOLLOUT) != 0) {
                load_pull(load, peer);
            }
        }
        now = load_clock(CLOCK_MONOTONIC);
    }
}

/* User and system time of all threads, living and ended, from proc(5). */
static double
server_cpu(long pid)
{
    char path[64];
    char text[1024];
    unsigned long user, kernel;
    double result = -1;
    if (pid == 0) {
        return result;
    }
    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return result;
    }
    /* The second field, a name in brackets, may hold anything. */
    char *rest =
        fgets(text, sizeof(text), file) == NULL ? NULL : strrchr(text, ')');
    if (rest != NULL
        && sscanf(rest,
                  ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                  &user, &kernel)
               == 2) {
        result = (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
    }
    fclose(file);
    return result;
}

static struct mark
take_mark(const struct load *load)
{
    return (struct mark){
        .server_cpu = server_cpu(load->plan.pid),
        .own_cpu = load_clock(CLOCK_PROCESS_CPUTIME_ID),
        .messages = load->messages,
        .time = load_clock(CLOCK_MONOTONIC),
    };
}

static void
report(const struct load *load, const struct mark *from, const struct mark *to)
{
    double seconds = (double)(to->time - from->time) / (double)SECOND;
    uint64_t messages = to->messages - from->messages;
    printf("{\"messages\": %" PRIu64 ", \"seconds\": %.6f, \"rate\": %.1f, "
           "\"errors\": %" PRIu64 ", \"load_cpu\": %.6f",
           messages, seconds, (double)messages / seconds, load->errors,
           (double)(to->own_cpu - from->own_cpu) / (double)SECOND);
    if (from->server_cpu >= 0 && to->server_cpu >= 0) {
        printf(", \"server_cpu\": %.2f", to->server_cpu - from->server_cpu);
    }
    printf("}\n");
}

static uint64_t
ns_of(double seconds)
{
    return (uint64_t)(seconds * (double)SECOND);
}

static void
measure(struct load *load)
{
    const struct plan *plan = &load->plan;
    load_start(load);
    run(load, ns_of(plan->warmup), TIME_IS_UP);
    struct mark from = take_mark(load);
    run(load, ns_of(plan->seconds), TIME_IS_UP);
    struct mark to = take_mark(load);
    load->stopping = true;
    run(load, DRAIN_TIME, ALL_CAME_BACK);
    if (load->outstanding > 0) {
        fprintf(stderr, "%" PRIu64 " messages did not come back\n",
                load->outstanding);
        load->errors += load->outstanding;
    }
    load_close(load);
    run(load, CLOSE_TIME, ALL_CLOSED);
    if (load->open > 0) {
        fprintf(stderr, "%u Close frames were not answered\n", load->open);
        load->errors += load->open;
    }
    report(load, &from, &to);
}

/* Options ----------------------------------------------------------------- */

static void
usage(void)
{
    fputs("usage: load --port PORT [--connections N] [--depth N] [--size N]\n"
          "            [--binary] [--seconds S] [--warmup S] [--pid PID]\n",
          stderr);
    exit(2);
}

static double
number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least && value <= most)) {
        fprintf(stderr, "got %s, expected a number from %g to %g\n", text,
                least, most);
        usage();
    }
    return value;
}

static void
parse(int argc, char **argv, struct plan *plan)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"connections", required_argument, NULL, 'c'},
        {"depth", required_argument, NULL, 'd'},
        {"size", required_argument, NULL, 's'},
        {"binary", no_argument, NULL, 'b'},
        {"seconds", required_argument, NULL, 't'},
        {"warmup", required_argument, NULL, 'w'},
        {"pid", required_argument, NULL, 'i'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'p':
            plan->address.sin_port =
                htons((uint16_t)number(optarg, 1, 0xffff));
            break;
        case 'c':
            plan->connections = (unsigned)number(optarg, 1, CONNECTIONS_MAX);
            break;
        case 'd':
            plan->depth = (unsigned)number(optarg, 1, 100000);
            break;
        case 's':
            plan->size = (size_t)number(optarg, 0, 1 << 30);
            break;
        case 'b':
            plan->opcode = OPCODE_BINARY;
            break;
        case 't':
            plan->seconds = number(optarg, 0.01, 3600);
            break;
        case 'w':
            plan->warmup = number(optarg, 0, 3600);
            break;
        case 'i':
            plan->pid = (long)number(optarg, 1, 1 << 30);
            break;
        default:
            usage();
        }
    }
    if (optind != argc || plan->address.sin_port == 0) {
        usage();
    }
}

int
main(int argc, char **argv)
{
    struct load load = {
        .plan = {.address = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
                 .connections = 32,
                 .depth = 16,
                 .size = 32,
                 .opcode = OPCODE_TEXT,
                 .seconds = 2,
                 .warmup = 0.5},
    };
    parse(argc, argv, &load.plan);
    load_prepare(&load);
    load_open(&load);
    measure(&load);
    uint64_t errors = load.errors;
    load_release(&load);
    return errors == 0 ? 0 : 1;
}
