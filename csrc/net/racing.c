#include "net/racing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    ADDRESSES_MAX = 64, /* further ones are left out */
};

_Static_assert((int)TWS_RACING_WAITS <= (int)TWS_WAITS_MAX,
               "one wait must do for all attempts");

struct candidate {
    struct tws_address address;
    int error;     /* errno of its failure, or 0 */
    bool own_side; /* ... which was that of the source address */
};

struct attempt {
    int fd; /* owned */
    size_t candidate;
};

struct tws_racing {
    struct tws_resolve *resolve; /* owned */
    struct tws_source source;
    int protocol;
    int wake[2]; /* ends of a pipe: reader, writer */
    int gai_error;
    bool known;                   /* the candidates are filled in */
    struct candidate *candidates; /* owned; in the order of their turn */
    size_t count;
    size_t next; /* candidate to begin with next */
    uint64_t next_at;
    struct attempt attempts[TWS_RACING_MAX]; /* the oldest first */
    size_t attempt_count;
};

enum tws_status
tws_racing_new(struct tws_resolve *resolve, int protocol,
               struct tws_racing **racing, struct tws_error *err)
{
    struct tws_racing *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return tws_error_nomem(err);
    }
    if (pipe2(made->wake, O_CLOEXEC | O_NONBLOCK) < 0) {
        int saved = errno;
        free(made);
        return tws_error_os(err, saved, "pipe");
    }
    made->resolve = resolve;
    made->protocol = protocol;
    *racing = made;
    return TWS_OK;
}

void
tws_racing_bind(struct tws_racing *racing, const struct tws_source *source)
{
    racing->source = *source;
}

static void
close_attempts(struct tws_racing *racing)
{
    for (size_t i = 0; i < racing->attempt_count; i++) {
        close(racing->attempts[i].fd);
    }
    racing->attempt_count = 0;
}

void
tws_racing_free(struct tws_racing *racing)
{
    if (racing == NULL) {
        return;
    }
    close_attempts(racing);
    close(racing->wake[0]);
    close(racing->wake[1]);
    tws_resolve_free(racing->resolve);
    free(racing->candidates);
    free(racing);
}

/* --- who takes part, and in which order --- */

/* Reads the addresses off the look-up, those apart that the source address
 * can't reach. */
static enum tws_status
collect(struct tws_racing *racing, struct tws_error *err)
{
    struct tws_address address;
    enum tws_status status =
        tws_resolve_next(racing->resolve, &address, &racing->gai_error, err);
    if (status == TWS_OK && racing->candidates == NULL) {
        racing->candidates = calloc(ADDRESSES_MAX, sizeof(struct candidate));
        if (racing->candidates == NULL) {
            return tws_error_nomem(err);
        }
    }
    while (status == TWS_OK && racing->count < ADDRESSES_MAX) {
        if (tws_source_allows(&racing->source, address.storage.ss_family)) {
            racing->candidates[racing->count].address = address;
            racing->count++;
        }
        status = tws_resolve_next(racing->resolve, &address,
                                  &racing->gai_error, err);
    }
    return status == TWS_EOF ? TWS_OK : status;
}

/* The families by turns, beginning with that of the first address, which the
 * system prefers (RFC 8305 §4; RFC 6724 §6): each is moved up behind the last
 * one of the other family. */
static void
interleave(struct candidate *candidates, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        int last = candidates[i - 1].address.storage.ss_family;
        size_t other = i;
        while (other < count
               && candidates[other].address.storage.ss_family == last) {
            other++;
        }
        if (other == count) {
            return; /* only one family is left */
        }
        struct candidate moved = candidates[other];
        memmove(&candidates[i + 1], &candidates[i],
                (other - i) * sizeof(moved));
        candidates[i] = moved;
    }
}

/* --- attempts --- */

static void
note_failure(struct tws_racing *racing, size_t candidate,
             const struct tws_error *err, bool own_side)
{
    racing->candidates[candidate].error = err->sys_errno;
    racing->candidates[candidate].own_side = own_side;
}

/* Takes an attempt off the list. Its descriptor is the caller's. */
static struct attempt
take(struct tws_racing *racing, size_t i)
{
    struct attempt taken = racing->attempts[i];
    racing->attempt_count--;
    memmove(&racing->attempts[i], &racing->attempts[i + 1],
            (racing->attempt_count - i) * sizeof(taken));
    return taken;
}

static void
fail(struct tws_racing *racing, size_t i, const struct tws_error *err)
{
    struct attempt failed = take(racing, i);
    close(failed.fd);
    note_failure(racing, failed.candidate, err, false);
}

/* Looks at those under way. TWS_OK: one has won; *failed: one has lost. */
static enum tws_status
check_attempts(struct tws_racing *racing, int *fd, bool *failed,
               struct tws_error *err)
{
    struct tws_wait waits[TWS_RACING_MAX];
    size_t count = racing->attempt_count;
    if (count == 0) {
        return TWS_AGAIN;
    }
    for (size_t i = 0; i < count; i++) {
        waits[i] = (struct tws_wait){.fd = racing->attempts[i].fd,
                                     .events = TWS_WAIT_WRITE};
    }
    enum tws_status status = tws_socket_wait_any(waits, count, 0, err);
    if (status != TWS_OK) {
        return status;
    }
    /* From the youngest on, so that what was looked at keeps its place. */
    status = TWS_AGAIN;
    for (size_t i = count; i-- > 0;) {
        struct tws_error why;
        if (waits[i].ready == 0) {
            continue;
        }
        if (tws_socket_connected(racing->attempts[i].fd, &why) != TWS_OK) {
            fail(racing, i, &why);
            *failed = true;
            continue;
        }
        if (status == TWS_OK) {
            close(*fd); /* the older one wins */
        }
        *fd = take(racing, i).fd;
        status = TWS_OK;
    }
    return status;
}

/* Begins with the next candidate. TWS_OK: it has connected at once. */
static enum tws_status
begin(struct tws_racing *racing, int *fd)
{
    size_t candidate = racing->next++;
    const struct tws_address *address = &racing->candidates[candidate].address;
    int family = address->storage.ss_family;
    struct tws_error why;
    bool bound = false;
    int made = -1;
    enum tws_status status =
        tws_socket_open(family, racing->protocol, &made, &why);
    if (status == TWS_OK) {
        status = tws_source_bind(&racing->source, made, family, &why);
        bound = status == TWS_OK;
    }
    if (bound) {
        status = tws_socket_connect(made, address, &why);
    }
    if (status == TWS_OK) {
        *fd = made;
    }
    else if (status == TWS_AGAIN) {
        racing->attempts[racing->attempt_count] =
            (struct attempt){.fd = made, .candidate = candidate};
        racing->attempt_count++;
    }
    else {
        if (made >= 0) {
            close(made);
        }
        note_failure(racing, candidate, &why, made >= 0 && !bound);
    }
    return status;
}

/* Begins as many as are due. TWS_OK: one has connected at once. */
static enum tws_status
begin_due(struct tws_racing *racing, uint64_t now, int *fd)
{
    while (racing->next < racing->count && now >= racing->next_at) {
        if (racing->attempt_count == TWS_RACING_MAX) {
            /* There are more to try than room: the oldest has had its time
             * (RFC 8305 does not say; a bound of descriptors must). */
            struct tws_error late;
            (void)tws_error_os(&late, ETIMEDOUT, "connect");
            fail(racing, 0, &late);
        }
        enum tws_status status = begin(racing, fd);
        if (status == TWS_OK) {
            return status;
        }
        if (status == TWS_AGAIN) {
            racing->next_at = now + TWS_RACING_DELAY;
        }
    }
    return TWS_AGAIN;
}

/* --- why there was no winner --- */

/* What says something about the server rather than about a network that this
 * machine does not have. */
static bool
is_telling(int error)
{
    switch (error) {
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT:
        return false;
    default:
        return true;
    }
}

struct text {
    size_t length;
    char bytes[sizeof(((struct tws_error *)NULL)->reason)];
};

static void add(struct text *text, const char *format, ...) TWS_PRINTF(2, 3);

/* All or nothing, and "..." where nothing. */
static void
add(struct text *text, const char *format, ...)
{
    size_t room = sizeof(text->bytes) - text->length;
    va_list args;
    va_start(args, format);
    int made = vsnprintf(text->bytes + text->length, room, format, args);
    va_end(args);
    size_t length = made < 0 ? 0 : (size_t)made;
    if (length < room) {
        text->length += length;
        return;
    }
    if (text->length > sizeof(text->bytes) - sizeof("...")) {
        text->length = sizeof(text->bytes) - sizeof("...");
    }
    memcpy(text->bytes + text->length, "...", sizeof("..."));
    text->length = sizeof(text->bytes) - 1; /* nothing more */
}

/* "Connection refused (::1, 127.0.0.1), Network is unreachable (...)". */
static void
add_failures(const struct tws_racing *racing, struct text *text)
{
    for (size_t i = 0; i < racing->count; i++) {
        const struct candidate *one = &racing->candidates[i];
        const struct candidate *before = i > 0 ? one - 1 : NULL;
        char host[TWS_HOST_TEXT];
        char words[TWS_ERRNO_TEXT];
        tws_socket_host(&one->address, host);
        if (before != NULL && before->error == one->error
            && before->own_side == one->own_side) {
            add(text, ", %s", host);
            continue;
        }
        add(text, "%s%s%s (%s", before == NULL ? "" : "), ",
            one->own_side ? "source address: " : "",
            tws_errno_text(one->error, words), host);
    }
    add(text, ")");
}

static enum tws_status
nobody_won(const struct tws_racing *racing, struct tws_error *err)
{
    struct text text = {.length = 0};
    int error = EADDRNOTAVAIL;
    bool telling = false;
    if (racing->count == 0) {
        add(&text, "%s",
            racing->source.given ? "no address of the source address's family"
                                 : "no address");
    }
    else {
        add_failures(racing, &text);
    }
    for (size_t i = 0; i < racing->count; i++) {
        int this = racing->candidates[i].error;
        if (i == 0 || is_telling(this) || !telling) {
            error = this;
            telling = is_telling(this);
        }
    }
    return tws_error_os(err, error, text.bytes);
}

/* --- the whole --- */

static enum tws_status
advance(struct tws_racing *racing, uint64_t now, int *fd,
        struct tws_error *err)
{
    bool failed = false;
    if (!racing->known) {
        enum tws_status status = collect(racing, err);
        if (status != TWS_OK) {
            return status;
        }
        interleave(racing->candidates, racing->count);
        racing->known = true;
        racing->next_at = now;
    }
    enum tws_status status = check_attempts(racing, fd, &failed, err);
    if (status != TWS_AGAIN) {
        return status;
    }
    if (failed) {
        racing->next_at = now; /* its successor need not wait any longer */
    }
    return begin_due(racing, now, fd);
}

enum tws_status
tws_racing_advance(struct tws_racing *racing, uint64_t now, int *fd,
                   struct tws_error *err)
{
    enum tws_status status = advance(racing, now, fd, err);
    if (status == TWS_OK) {
        close_attempts(racing);
        racing->next = racing->count;
    }
    else if (status == TWS_AGAIN && racing->known && racing->attempt_count == 0
             && racing->next == racing->count) {
        status = nobody_won(racing, err);
    }
    return status;
}

size_t
tws_racing_wait(const struct tws_racing *racing,
                struct tws_wait waits[TWS_RACING_WAITS], uint64_t *until)
{
    size_t count = 0;
    waits[count++] =
        (struct tws_wait){.fd = racing->wake[0], .events = TWS_WAIT_READ};
    *until = UINT64_MAX;
    if (!racing->known) {
        waits[count++] = (struct tws_wait){
            .fd = tws_resolve_fd(racing->resolve), .events = TWS_WAIT_READ};
        return count;
    }
    for (size_t i = 0; i < racing->attempt_count; i++) {
        waits[count++] = (struct tws_wait){.fd = racing->attempts[i].fd,
                                           .events = TWS_WAIT_WRITE};
    }
    if (racing->next < racing->count) {
        *until = racing->next_at;
    }
    return count;
}

bool
tws_racing_is_resolving(const struct tws_racing *racing)
{
    return !racing->known;
}

int
tws_racing_gai_error(const struct tws_racing *racing)
{
    return racing->gai_error;
}

void
tws_racing_interrupt(const struct tws_racing *racing)
{
    /* The byte stays in the pipe: a wait that begins later ends, too. */
    ssize_t ignored = write(racing->wake[1], "", 1);
    (void)ignored;
}
