/* Puts a WebSocket server under load, checks every byte that comes back, and
 * prints what came of it as one line of JSON. Shares no code with what it
 * measures. See bench/README.md.
 *
 * Ends with status 1 where anything was wrong, late or lost, and with 2 where
 * it could not be measured. */
#include "load.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#define OPEN_TIME (120 * SECOND)
#define DRAIN_TIME (10 * SECOND)
#define CLOSE_TIME (15 * SECOND)
#define CLOSE_TIME_EACH (SECOND / 250)
#define HOLD_TIME (3600 * SECOND)

enum {
    EVENTS = 256,      /* ready connections looked at in one turn */
    OPENING_MOST = 64, /* handshakes side by side: backlogs are short */
    ERRORS_MOST = 1000,
};

/* The counts at one end of the measured time. */
struct mark {
    uint64_t time;
    uint64_t own_cpu;
    double server_cpu; /* seconds, -1 where it is not known */
    struct counts counts;
};

/* The run ----------------------------------------------------------------- */

enum until { ALL_OPEN, TIME_IS_UP, ALL_CAME_BACK, RELEASED, ALL_CLOSED };

static bool
is_done(const struct load *load, enum until until)
{
    bool all_begun = load->begun == load->plan.connections;
    switch (until) {
    case ALL_OPEN:
        return all_begun && load->open == load->alive;
    case ALL_CAME_BACK:
        return load->outstanding == 0 || load->alive == 0;
    case RELEASED:
        return load->released;
    case ALL_CLOSED:
        return load->alive == 0;
    default:
        return load->counts.errors > ERRORS_MOST;
    }
}

static void
open_more(struct load *load)
{
    while (load->begun < load->plan.connections
           && load->alive - load->open < OPENING_MOST) {
        peer_begin(load, &load->peers[load->begun++]);
    }
}

static void
take_event(struct load *load, const struct epoll_event *event)
{
    struct peer *peer = event->data.ptr;
    if (peer == NULL) {
        load->released = true;
        (void)epoll_ctl(load->epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
        return;
    }
    peer_ready(load, peer, event->events);
    if (peer->stage == STAGE_NONE && load->plan.mode == MODE_CHURN
        && !load->stopping) {
        peer_begin(load, peer);
    }
}

static void
run(struct load *load, uint64_t time, enum until until)
{
    struct epoll_event events[EVENTS];
    uint64_t deadline = load_clock(CLOCK_MONOTONIC) + time;
    uint64_t now = deadline - time;
    /* A timeout of epoll's is too coarse for a rate. */
    bool issuing = load->plan.rate > 0 && load->started && !load->stopping;
    while (now < deadline && !is_done(load, until)) {
        int wait = (int)((deadline - now) / (SECOND / 1000)) + 1;
        int count =
            epoll_wait(load->epoll, events, EVENTS, issuing ? 0 : wait);
        if (count < 0 && errno != EINTR) {
            load_die("epoll_wait");
        }
        for (int i = 0; i < count; i++) {
            take_event(load, &events[i]);
        }
        if (issuing) {
            modes_issue(load);
        }
        if (!load->stopping) {
            open_more(load);
        }
        now = load_clock(CLOCK_MONOTONIC);
    }
}

/* The result -------------------------------------------------------------- */

static struct mark
take_mark(const struct load *load)
{
    return (struct mark){
        .server_cpu = load_server_cpu(&load->plan),
        .own_cpu = load_clock(CLOCK_PROCESS_CPUTIME_ID),
        .counts = load->counts,
        .time = load_clock(CLOCK_MONOTONIC),
    };
}

static void
print_latency(const struct histogram *latency)
{
    static const double shares[] = {0.5, 0.9, 0.99, 0.999};
    static const char *const names[] = {"p50", "p90", "p99", "p99.9"};
    printf(", \"latency\": {");
    for (unsigned i = 0; i < 4; i++) {
        printf("\"%s\": %.1f, ", names[i],
               (double)histogram_at(latency, shares[i]) / 1e3);
    }
    printf("\"max\": %.1f}", (double)latency->most / 1e3);
}

static void
report(const struct load *load, const struct mark *from, const struct mark *to,
       uint64_t unsent)
{
    double seconds = (double)(to->time - from->time) / (double)SECOND;
    uint64_t messages = to->counts.messages - from->counts.messages;
    uint64_t handshakes = to->counts.handshakes - from->counts.handshakes;
    uint64_t count = load->plan.mode == MODE_CHURN ? handshakes : messages;
    printf("{\"messages\": %" PRIu64 ", \"handshakes\": %" PRIu64
           ", \"resumed\": %" PRIu64 ", \"deflated\": %" PRIu64
           ", \"unsent\": %" PRIu64 ", \"errors\": %" PRIu64
           ", \"seconds\": %.6f, \"rate\": %.1f, \"load_cpu\": %.6f",
           messages, handshakes, to->counts.resumed - from->counts.resumed,
           to->counts.deflated - from->counts.deflated, unsent,
           load->counts.errors, seconds, (double)count / seconds,
           (double)(to->own_cpu - from->own_cpu) / (double)SECOND);
    if (from->server_cpu >= 0 && to->server_cpu >= 0) {
        printf(", \"server_cpu\": %.6f", to->server_cpu - from->server_cpu);
    }
    print_latency(&load->latency);
    printf("}\n");
}

/* What was due at a fixed rate and found no room. */
static uint64_t
give_up_unsent(struct load *load)
{
    uint64_t unsent = 0;
    for (unsigned i = 0; i < load->plan.connections; i++) {
        if (load->plan.rate > 0) {
            unsent += load->peers[i].owed;
            load->outstanding -= load->peers[i].owed;
            load->peers[i].owed = 0;
        }
    }
    return unsent;
}

/* Phases ------------------------------------------------------------------ */

static uint64_t
ns_of(double seconds)
{
    return (uint64_t)(seconds * (double)SECOND);
}

static void
close_all(struct load *load)
{
    load->stopping = true;
    run(load, DRAIN_TIME, ALL_CAME_BACK);
    if (load->outstanding > 0) {
        fprintf(stderr, "%" PRIu64 " messages did not come back\n",
                load->outstanding);
        load->counts.errors += load->outstanding;
    }
    for (unsigned i = 0; i < load->plan.connections; i++) {
        peer_close(load, &load->peers[i]);
    }
    run(load, CLOSE_TIME + load->plan.connections * CLOSE_TIME_EACH,
        ALL_CLOSED);
    if (load->alive > 0) {
        fprintf(stderr, "%u Close frames were not answered\n", load->alive);
        load->counts.errors += load->alive;
    }
}

static void
open_all(struct load *load)
{
    open_more(load);
    run(load, OPEN_TIME, ALL_OPEN);
    if (load->open < load->plan.connections) {
        load_fail("%u of %u connections could be opened", load->open,
                  load->plan.connections);
    }
}

static void
measure(struct load *load)
{
    const struct plan *plan = &load->plan;
    if (plan->mode == MODE_CHURN) {
        open_more(load);
    }
    else {
        open_all(load);
    }
    modes_start(load);
    run(load, ns_of(plan->warmup), TIME_IS_UP);
    load->measuring = true;
    struct mark from = take_mark(load);
    run(load, ns_of(plan->seconds), TIME_IS_UP);
    struct mark to = take_mark(load);
    load->measuring = false;
    uint64_t unsent = give_up_unsent(load);
    close_all(load);
    report(load, &from, &to, unsent);
}

/* Prints a line once all are silent, and goes on when the standard input has
 * something, or ends. */
static void
hold(struct load *load)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    struct mark from = take_mark(load);
    load->measuring = true;
    open_all(load);
    modes_start(load);
    run(load, OPEN_TIME, ALL_CAME_BACK);
    struct mark to = take_mark(load);
    printf("{\"open\": %u}\n", load->open);
    if (fflush(stdout) != 0) {
        load_die("stdout");
    }
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0) {
        load->released = true; /* a file: nothing to wait for */
    }
    run(load, HOLD_TIME, RELEASED);
    close_all(load);
    report(load, &from, &to, 0);
}

static void
prepare(struct load *load)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* socket() tells */
    }
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (load->epoll < 0) {
        load_die("epoll_create1");
    }
    if (!wire_setup_init(&load->wires, load->plan.tls, load->plan.resume)) {
        load_die("OpenSSL");
    }
    content_make(load);
    load->peers = load_allocate(load->plan.connections, sizeof(*load->peers));
    for (unsigned i = 0; i < load->plan.connections; i++) {
        load->peers[i].id = i;
        load->peers[i].wire.fd = -1;
    }
}

static void
release(struct load *load)
{
    for (unsigned i = 0; i < load->plan.connections; i++) {
        struct peer *peer = &load->peers[i];
        wire_close(&peer->wire);
        SSL_SESSION_free(peer->wire.session);
        reading_forget(&peer->in);
        free(peer->put_at);
        free(peer->out);
    }
    free(load->peers);
    content_release(load);
    wire_setup_release(&load->wires);
    close(load->epoll);
}

int
main(int argc, char **argv)
{
    static struct load load;
    options_parse(argc, argv, &load.plan);
    prepare(&load);
    if (load.plan.mode == MODE_HOLD) {
        hold(&load);
    }
    else {
        measure(&load);
    }
    release(&load);
    return load.counts.errors == 0 ? 0 : 1;
}
