#include "load.h"

/* When the message was due at a fixed rate. A latency counts from then on,
 * not from when it could be sent: what a server keeps waiting counts, too
 * ("coordinated omission"). */
static uint64_t
due(const struct load *load, const struct peer *peer, uint32_t number)
{
    double place =
        (double)number * (double)load->plan.connections + (double)peer->id;
    return load->start + (uint64_t)(place / load->plan.rate * (double)SECOND);
}

static void
record(struct load *load, uint64_t since)
{
    if (load->measuring) {
        histogram_add(&load->latency,
                      load->now > since ? load->now - since : 0);
    }
}

void
modes_start(struct load *load)
{
    const struct plan *plan = &load->plan;
    unsigned senders = plan->connections;
    uint32_t first = plan->depth;
    load->now = load->start = load_clock(CLOCK_MONOTONIC);
    load->started = true;
    if (plan->mode == MODE_FANOUT) {
        load->missing = plan->connections;
        senders = 1;
        first = 1;
    }
    else if (plan->mode == MODE_HOLD) {
        first = plan->each > 0;
    }
    else if (plan->mode == MODE_CHURN || plan->rate > 0) {
        first = 0;
    }
    for (unsigned i = 0; i < senders && first > 0; i++) {
        load->peers[i].owed = first;
        load->outstanding += first;
        peer_push(load, &load->peers[i]);
    }
}

void
modes_issue(struct load *load)
{
    const struct plan *plan = &load->plan;
    load->now = load_clock(CLOCK_MONOTONIC);
    double passed = (double)(load->now - load->start) / (double)SECOND;
    uint64_t wanted = (uint64_t)(passed * plan->rate);
    while (load->issued < wanted) {
        struct peer *peer = &load->peers[load->issued % plan->connections];
        load->issued++;
        if (peer->stage == STAGE_OPEN) {
            peer->owed++;
            load->outstanding++;
            if (!peer->wants_room) {
                peer_push(load, peer);
            }
        }
    }
}

void
modes_opened(struct load *load, struct peer *peer)
{
    if (load->plan.mode == MODE_CHURN) {
        record(load, peer->began);
        peer_close(load, peer);
    }
}

static void
delivered(struct load *load)
{
    struct peer *sender = &load->peers[0];
    if (--load->missing > 0) {
        return;
    }
    record(load, sender->put_at[0]);
    if (load->stopping) {
        load->outstanding = 0;
        return;
    }
    load->missing = load->plan.connections;
    sender->owed++;
    if (!sender->wants_room) {
        peer_push(load, sender);
    }
}

void
modes_arrived(struct load *load, struct peer *peer)
{
    const struct plan *plan = &load->plan;
    uint32_t number = peer->received++;
    if (plan->mode == MODE_FANOUT) {
        delivered(load);
        return;
    }
    if (plan->rate > 0) {
        record(load, due(load, peer, number));
        load->outstanding--;
        return;
    }
    record(load, peer->put_at[number % plan->depth]);
    bool more = plan->mode == MODE_HOLD ? peer->received < plan->each
                                        : !load->stopping;
    if (more) {
        peer->owed++;
    }
    else {
        load->outstanding--;
    }
}

void
modes_gone(struct load *load, struct peer *peer)
{
    if (load->plan.mode != MODE_FANOUT) {
        load->outstanding -= peer->sent - peer->received + peer->owed;
    }
    peer->owed = 0;
}
