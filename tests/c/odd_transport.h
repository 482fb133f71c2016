/* Transports of clients that count their calls, take a few bytes at a time,
 * and fail to write. For one client at a time. */
#ifndef TWS_TESTS_ODD_TRANSPORT_H
#define TWS_TESTS_ODD_TRANSPORT_H

#include "engine_fixture.h"

static struct tws_transport_ops own_ops;
static const struct tws_transport_ops *plain_ops; /* set by use_ops() */
static atomic_int read_calls;
static atomic_int reads; /* that found something */
static atomic_int writes;
static atomic_int write_errno; /* 0: none */
static atomic_uint stutter;
static atomic_size_t allowance; /* bytes that are taken yet */

static inline enum tws_status
counting_read(struct tws_transport *transport, uint8_t *data, size_t size,
              size_t *got, struct tws_error *err)
{
    enum tws_status status = plain_ops->read(transport, data, size, got, err);
    reads += status == TWS_OK;
    read_calls++;
    return status;
}

static inline enum tws_status
counting_writev(struct tws_transport *transport, const struct iovec *parts,
                int count, size_t *written, struct tws_error *err)
{
    writes++;
    if (write_errno != 0) {
        return tws_error_os(err, write_errno, "send");
    }
    return plain_ops->writev(transport, parts, count, written, err);
}

/* Takes a few bytes, or none, by turns. Called with the client's lock. */
static inline enum tws_status
stuttering_writev(struct tws_transport *transport, const struct iovec *parts,
                  int count, size_t *written, struct tws_error *err)
{
    unsigned step = stutter++;
    if (step % 5 == 4) {
        return TWS_AGAIN;
    }
    size_t left = 1 + step * step % 1999;
    struct iovec few[2];
    int used = 0;
    while (used < count && used < 2 && left > 0) {
        few[used] = parts[used];
        if (few[used].iov_len > left) {
            few[used].iov_len = left;
        }
        left -= few[used].iov_len;
        used++;
    }
    return plain_ops->writev(transport, few, used, written, err);
}

static inline void
use_ops(struct tws_client *client,
        enum tws_status (*writev)(struct tws_transport *, const struct iovec *,
                                  int, size_t *, struct tws_error *))
{
    plain_ops = client->transport.ops;
    own_ops = *plain_ops;
    own_ops.read = counting_read;
    own_ops.writev = writev;
    client->transport.ops = &own_ops;
    reads = writes = read_calls = write_errno = 0;
    stutter = 0;
}

static inline void
count_calls(struct fixture *fixture, struct tws_client *client)
{
    (void)fixture;
    use_ops(client, counting_writev);
}

static inline void
stutter_writes(struct fixture *fixture, struct tws_client *client)
{
    (void)fixture;
    use_ops(client, stuttering_writev);
}

/* Called with the client's lock. */
static inline enum tws_status
allowed_writev(struct tws_transport *transport, const struct iovec *parts,
               int count, size_t *written, struct tws_error *err)
{
    size_t left = allowance;
    struct iovec some[2];
    int used = 0;
    if (left == 0) {
        return TWS_AGAIN;
    }
    while (used < count && used < 2 && left > 0) {
        some[used] = parts[used];
        if (some[used].iov_len > left) {
            some[used].iov_len = left;
        }
        left -= some[used].iov_len;
        used++;
    }
    enum tws_status status =
        plain_ops->writev(transport, some, used, written, err);
    if (status == TWS_OK) {
        allowance -= *written;
    }
    return status;
}

/* Nothing leaves until the test says how much may. */
static inline void
hold_back_writes(struct fixture *fixture, struct tws_client *client)
{
    (void)fixture;
    use_ops(client, allowed_writev);
    allowance = 0;
}

static inline void
take_silently(struct fixture *fixture, struct tws_client *client,
              const struct tws_event *event)
{
    (void)fixture;
    (void)client;
    (void)event;
}

/* A server with one client, which is held, and to which nothing leaves. */
static inline int
start_held_back(struct fixture *fixture)
{
    fixture->hold = true;
    fixture->on_open = hold_back_writes;
    fixture->on_message = take_silently;
    fixture_start(fixture);
    int fd = connect_client(fixture);
    EVENTUALLY(fixture->opened == 1);
    return fd;
}

/* Lets that much leave. */
static inline void
let_leave(struct tws_client *client, size_t bytes)
{
    size_t before = tws_client_queued(client);
    allowance += bytes;
    EVENTUALLY(tws_client_queued(client) == before - bytes);
}

/* Each size that is special to a header, a buffer or a limit. */
static const size_t sizes[] = {0,     1,     125,   126,   127,    16384,
                               16385, 65535, 65536, 70000, 1 << 20};

static inline void
echo_all_sizes(int fd)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(sizes); i++) {
        put_frame(fd, TEXT, pattern, sizes[i]);
        expect_frame(fd, TEXT, pattern, sizes[i]);
        put_frame(fd, BINARY, pattern, sizes[i]);
        expect_frame(fd, BINARY, pattern, sizes[i]);
    }
}

#endif /* TWS_TESTS_ODD_TRANSPORT_H */
