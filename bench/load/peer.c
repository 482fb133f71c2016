#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#define PATIENCE (5 * SECOND) /* a new server may not listen yet */

enum {
    SCRATCH = 256 * 1024,
    CONTROL_ROOM = 256, /* kept for control frames among the data */
};

static void
look_for_room(struct load *load, struct peer *peer, bool wanted)
{
    struct epoll_event event = {.data.ptr = peer, .events = EPOLLIN};
    if (wanted == peer->wants_room) {
        return;
    }
    if (wanted) {
        event.events |= EPOLLOUT;
    }
    if (epoll_ctl(load->epoll, EPOLL_CTL_MOD, peer->wire.fd, &event) != 0) {
        load_die("epoll_ctl");
    }
    peer->wants_room = wanted;
}

static void
dial(struct load *load, struct peer *peer)
{
    struct epoll_event event = {.data.ptr = peer,
                                .events = EPOLLIN | EPOLLOUT};
    if (!wire_dial(&peer->wire, &load->plan.address,
                   peer->id + (uint32_t)load->counts.handshakes)) {
        load_die("connect");
    }
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, peer->wire.fd, &event) != 0) {
        load_die("epoll_ctl");
    }
    peer->wants_room = true;
    peer->stage = STAGE_CONNECTING;
}

void
peer_begin(struct load *load, struct peer *peer)
{
    if (peer->out == NULL) {
        peer->out = load_allocate(load->out_size, 1);
    }
    if (peer->put_at == NULL && load->plan.rate == 0) {
        peer->put_at = load_allocate(load->plan.depth, sizeof(*peer->put_at));
    }
    peer->out_start = peer->out_length = 0;
    peer->close_sent = false;
    peer->began = load_clock(CLOCK_MONOTONIC);
    load->alive++;
    dial(load, peer);
}

void
peer_drop(struct load *load, struct peer *peer)
{
    if (peer->stage == STAGE_NONE) {
        return;
    }
    load->open -= peer->stage == STAGE_OPEN;
    load->alive--;
    peer->stage = STAGE_NONE;
    wire_close(&peer->wire);
    reading_forget(&peer->in);
    modes_gone(load, peer);
}

/* Sends what is owed, as far as the kernel takes it. */
void
peer_push(struct load *load, struct peer *peer)
{
    while (peer->stage != STAGE_NONE) {
        if (peer->out_start == peer->out_length) {
            peer->out_start = peer->out_length = 0;
        }
        while (peer->owed > 0 && peer->stage == STAGE_OPEN
               && peer->sent - peer->received < load->plan.depth
               && peer->out_length + CONTROL_ROOM
                          + content_variant(load, peer, peer->sent)->frame_size
                      <= load->out_size) {
            content_put(load, peer);
        }
        if (peer->out_length == 0) {
            look_for_room(load, peer, false);
            return;
        }
        ptrdiff_t written =
            wire_write(&peer->wire, peer->out + peer->out_start,
                       peer->out_length - peer->out_start);
        if (written == WIRE_AGAIN) {
            look_for_room(load, peer,
                          peer->wire.ssl == NULL || peer->wire.wants_write);
            return;
        }
        if (written < 0) {
            load_fault(load, peer, "send: %s", strerror(errno));
            peer_drop(load, peer);
            return;
        }
        peer->out_start += (size_t)written;
    }
}

/* Opening ----------------------------------------------------------------- */

/* A server that has just been started may not listen yet. */
static bool
try_again(struct load *load, struct peer *peer, int error)
{
    static const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    if (error != ECONNREFUSED || load->counts.handshakes > 0
        || load_clock(CLOCK_MONOTONIC) - peer->began > PATIENCE) {
        return false;
    }
    wire_close(&peer->wire);
    nanosleep(&pause, NULL);
    dial(load, peer);
    return true;
}

static void
go_on_opening(struct load *load, struct peer *peer)
{
    if (peer->stage == STAGE_CONNECTING) {
        int error = wire_error(&peer->wire);
        if (error != 0) {
            if (!try_again(load, peer, error)) {
                load_fault(load, peer, "connect: %s", strerror(error));
                peer_drop(load, peer);
            }
            return;
        }
        peer->stage = STAGE_SECURING;
    }
    if (load->wires.context != NULL) {
        int result = wire_secure(&peer->wire, &load->wires);
        if (result == WIRE_AGAIN) {
            look_for_room(load, peer, peer->wire.wants_write);
            return;
        }
        if (result != 1) {
            load_fault(load, peer, "TLS handshake: %s",
                       result == 0 ? "the end" : strerror(errno));
            peer_drop(load, peer);
            return;
        }
    }
    peer->stage = STAGE_ASKING;
    opening_ask(load, peer);
    peer_push(load, peer);
}

static void
now_open(struct load *load, struct peer *peer)
{
    peer->stage = STAGE_OPEN;
    load->open++;
    load->counts.handshakes++;
    load->counts.resumed += wire_resumed(&peer->wire);
    modes_opened(load, peer);
}

/* Reading ----------------------------------------------------------------- */

/* `data` begins with the answer to our request. Its bytes, as those of
 * opening_check(). A server that says part of it and then rests has never
 * been seen: an answer fits into one segment. */
static ptrdiff_t
take_answer(struct load *load, struct peer *peer, const uint8_t *data,
            size_t length)
{
    ptrdiff_t used = opening_check(load, peer, data, length);
    if (used == 0) {
        load_fault(load, peer, "the answer to the request came in parts");
        return -1;
    }
    if (used > 0) {
        now_open(load, peer);
    }
    return used;
}

/* False where the connection is over. */
static bool
take(struct load *load, struct peer *peer, const uint8_t *data, size_t length)
{
    if (peer->stage == STAGE_ASKING) {
        ptrdiff_t used = take_answer(load, peer, data, length);
        if (used < 0) {
            return false;
        }
        data += used;
        length -= (size_t)used;
    }
    return reading_take(load, peer, data, length);
}

static void
pull(struct load *load, struct peer *peer)
{
    static uint8_t scratch[SCRATCH];
    do {
        ptrdiff_t got = wire_read(&peer->wire, scratch, sizeof(scratch));
        if (got == WIRE_AGAIN) {
            break;
        }
        load->now = load_clock(CLOCK_MONOTONIC);
        if (got <= 0) {
            if (!peer->close_sent) {
                load_fault(load, peer, "%s",
                           got == 0 ? "ended without a Close frame"
                                    : strerror(errno));
            }
            peer_drop(load, peer);
            return;
        }
        if (!take(load, peer, scratch, (size_t)got)) {
            peer_drop(load, peer);
        }
        if (peer->stage == STAGE_NONE) {
            return;
        }
    } while (wire_pending(&peer->wire));
    if (!peer->wants_room) {
        peer_push(load, peer);
    }
}

void
peer_ready(struct load *load, struct peer *peer, uint32_t events)
{
    if (peer->stage == STAGE_CONNECTING || peer->stage == STAGE_SECURING) {
        go_on_opening(load, peer);
        return;
    }
    if ((events & EPOLLOUT) != 0) {
        peer_push(load, peer);
    }
    if (peer->stage >= STAGE_ASKING && (events & ~(uint32_t)EPOLLOUT) != 0) {
        pull(load, peer);
    }
}

void
peer_close(struct load *load, struct peer *peer)
{
    static const uint8_t normal[] = {1000 >> 8, 1000 & 0xff};
    if (peer->stage != STAGE_OPEN) {
        return;
    }
    peer->close_sent =
        content_put_control(load, peer, OPCODE_CLOSE, normal, sizeof(normal));
    if (!peer->wants_room) {
        peer_push(load, peer);
    }
}
