#include "net/connecting.h"

#include <errno.h>
#include <stdio.h>

/* Until the next attempt where a Unix socket's queue is full. */
#define RETRY ((uint64_t)10 * 1000 * 1000)

void
tws_connecting_by_name(struct tws_connecting *connecting, int fd,
                       struct tws_resolve *resolve)
{
    *connecting = (struct tws_connecting){
        .fd = fd,
        .resolve = resolve,
        .attempt_end = UINT64_MAX,
    };
}

void
tws_connecting_by_address(struct tws_connecting *connecting, int fd,
                          const struct tws_address *address)
{
    *connecting = (struct tws_connecting){
        .fd = fd,
        .address = *address,
        .known = true,
        .trying = true,
        .attempt_end = UINT64_MAX,
    };
}

void
tws_connecting_release(struct tws_connecting *connecting)
{
    tws_resolve_free(connecting->resolve);
    connecting->resolve = NULL;
}

/* Steps to the next address. TWS_OK with connecting->address, TWS_AGAIN,
 * TWS_EOF, or why the look-up failed. */
static enum tws_status
next_address(struct tws_connecting *connecting, uint64_t now,
             uint64_t deadline, struct tws_error *err)
{
    connecting->attempt_end = UINT64_MAX;
    if (connecting->resolve == NULL) {
        return TWS_EOF;
    }
    enum tws_status status =
        tws_resolve_next(connecting->resolve, &connecting->address,
                         &connecting->gai_error, err);
    connecting->known = status == TWS_OK || status == TWS_EOF;
    if (status != TWS_OK) {
        return status;
    }
    size_t left = tws_resolve_left(connecting->resolve);
    if (left > 0 && deadline != UINT64_MAX && deadline > now) {
        connecting->attempt_end = now + (deadline - now) / (left + 1);
    }
    return TWS_OK;
}

/* Says in words what failed, instead of the name of a call. */
static enum tws_status
in_words(struct tws_error *err, const char *what)
{
    char text[sizeof(err->reason)];
    char words[TWS_ERRNO_TEXT];
    (void)snprintf(text, sizeof(text), "%s%s", what,
                   tws_errno_text(err->sys_errno, words));
    return tws_error_os(err, err->sys_errno, text);
}

/* Calls connect(). A Unix socket whose listener has no room says EAGAIN
 * (connect(2)), and time is all that can be waited for then. */
static enum tws_status
begin_attempt(struct tws_connecting *connecting, uint64_t now,
              struct tws_error *err)
{
    /* Where an earlier address has failed it is bound already. */
    enum tws_status status =
        tws_source_bind(&connecting->source, connecting->fd,
                        connecting->address.storage.ss_family, err);
    if (status != TWS_OK) {
        return in_words(err, "source address: ");
    }
    status = tws_socket_connect(connecting->fd, &connecting->address, err);
    connecting->queue_full = status == TWS_OS && err->sys_errno == EAGAIN;
    connecting->begun = !connecting->queue_full;
    if (connecting->queue_full) {
        connecting->attempt_end = now + RETRY;
        return TWS_AGAIN;
    }
    return status == TWS_OS ? in_words(err, "") : status;
}

/* One attempt. TWS_OK: connected; TWS_AGAIN; TWS_OS. */
static enum tws_status
attempt(struct tws_connecting *connecting, uint64_t now, struct tws_error *err)
{
    unsigned ready = 0;
    if (!connecting->begun) {
        enum tws_status status = begin_attempt(connecting, now, err);
        if (status != TWS_AGAIN || !connecting->begun) {
            return status;
        }
    }
    enum tws_status status =
        tws_socket_wait(connecting->fd, TWS_WAIT_WRITE, 0, &ready, err);
    if (status == TWS_OK) {
        status = tws_socket_connected(connecting->fd, err);
    }
    else if (status == TWS_AGAIN && now >= connecting->attempt_end) {
        status = tws_error_os(err, ETIMEDOUT, "connect");
    }
    return status == TWS_OS ? in_words(err, "") : status;
}

/* Makes the descriptor fit for another address (connect(2): AF_UNSPEC
 * dissolves what was begun). */
static void
disconnect(const struct tws_connecting *connecting)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    (void)connect(connecting->fd, &none, sizeof(none));
}

enum tws_status
tws_connecting_advance(struct tws_connecting *connecting, uint64_t now,
                       uint64_t deadline, struct tws_error *err)
{
    struct tws_error last;
    (void)tws_error_os(&last, EADDRNOTAVAIL, "no address");
    for (;;) {
        if (!connecting->trying) {
            enum tws_status status =
                next_address(connecting, now, deadline, err);
            if (status == TWS_EOF) {
                *err = last;
                return last.status;
            }
            if (status != TWS_OK) {
                return status;
            }
            connecting->trying = true;
        }
        enum tws_status status = attempt(connecting, now, &last);
        if (status == TWS_OK || status == TWS_AGAIN) {
            return status;
        }
        disconnect(connecting);
        connecting->trying = false;
        connecting->begun = false;
    }
}

void
tws_connecting_wait(const struct tws_connecting *connecting,
                    struct tws_wait *wait, uint64_t *until)
{
    *wait = (struct tws_wait){.fd = connecting->fd, .events = TWS_WAIT_WRITE};
    *until = connecting->attempt_end;
    if (tws_connecting_is_resolving(connecting)) {
        *wait = (struct tws_wait){.fd = tws_resolve_fd(connecting->resolve),
                                  .events = TWS_WAIT_READ};
    }
    else if (connecting->queue_full) {
        *wait = (struct tws_wait){.fd = -1};
    }
}

bool
tws_connecting_is_resolving(const struct tws_connecting *connecting)
{
    return !connecting->known;
}
