/* How ciphertext goes to and from the inner transport: in how many calls, and
 * within which bounds. */
#include "scarce_buffers.h"

#include "tls_fixture.h"

#include <errno.h>
#include <openssl/err.h>

static struct tls_pair pair;
static struct tws_tls_context *client;
static struct tws_tls_context *server;

/* Beneath the client: counts calls, and takes or gives what is allowed. */
static const struct tws_transport_ops *plain_ops;
static int reads;
static int writes;
static int ends;
static size_t written_bytes;
static size_t largest_write;
static size_t allowance = SIZE_MAX; /* bytes that are still taken */
static int write_errno;
static int read_errno;

static enum tws_status
counting_read(struct tws_transport *transport, uint8_t *data, size_t size,
              size_t *got, struct tws_error *err)
{
    reads++;
    if (read_errno != 0) {
        return tws_error_os(err, read_errno, "recv");
    }
    return plain_ops->read(transport, data, size, got, err);
}

static enum tws_status
counting_writev(struct tws_transport *transport, const struct iovec *parts,
                int count, size_t *written, struct tws_error *err)
{
    struct iovec part = parts[0];
    CHECK_INT(count, 1);
    writes++;
    if (write_errno != 0) {
        return tws_error_os(err, write_errno, "send");
    }
    if (allowance == 0) {
        return TWS_AGAIN;
    }
    part.iov_len = part.iov_len < allowance ? part.iov_len : allowance;
    enum tws_status status =
        plain_ops->writev(transport, &part, 1, written, err);
    if (status == TWS_OK) {
        allowance -= allowance == SIZE_MAX ? 0 : *written;
        written_bytes += *written;
        largest_write = *written > largest_write ? *written : largest_write;
    }
    return status;
}

static void
counting_end(struct tws_transport *transport)
{
    ends++;
    plain_ops->end_writing(transport);
}

static const struct tws_transport_ops counting_ops = {
    .read = counting_read,
    .writev = counting_writev,
    .end_writing = counting_end,
};

static void
reset(void)
{
    reads = writes = ends = write_errno = read_errno = 0;
    written_bytes = largest_write = 0;
    allowance = SIZE_MAX;
}

static void
begin(int version)
{
    if (server_file == NULL) {
        fixture_begin();
    }
    client = client_context();
    server = server_context_of(server_file);
    limit_version(client, version);
    open_pair(&pair, client, server, "a.test", NULL);
    struct tws_transport *inner = &pair.client.transport.tls->inner;
    plain_ops = inner->ops;
    inner->ops = &counting_ops;
    reset();
}

static void
begin_secured(int version)
{
    uint8_t data[1];
    size_t got;
    begin(version);
    shake_well(&pair);
    /* Tickets are out of the way. */
    CHECK_INT(
        tws_read(&pair.client.transport, data, 1, &got, &pair.client.err),
        TWS_AGAIN);
    reset();
}

static void
end(void)
{
    close_pair(&pair);
    tws_tls_context_release(client);
    tws_tls_context_release(server);
}

static struct tws_buffer *
out(void)
{
    return &pair.client.transport.tls->out;
}

TEST(a_handshake_writes_each_flight_at_once)
{
    begin(TLS1_3_VERSION);
    shake_well(&pair);
    CHECK_INT(writes, 2); /* ClientHello; Finished */
    end();
    begin(TLS1_2_VERSION);
    shake_well(&pair);
    CHECK_INT(writes, 2); /* ClientHello; ClientKeyExchange to Finished */
    end();
}

TEST(a_short_read_is_the_last)
{
    uint8_t data[100];
    size_t got;
    begin_secured(TLS1_3_VERSION);
    CHECK_INT(write_all(&pair.server, "abc", 3), TWS_OK);
    CHECK_INT(write_all(&pair.server, "def", 3), TWS_OK);
    CHECK_INT(tws_read(&pair.client.transport, data, sizeof(data), &got,
                       &pair.client.err),
              TWS_OK);
    CHECK_BYTES(data, got, "abcdef");
    CHECK_INT(reads, 1);
    CHECK(!tws_pending(&pair.client.transport));
    CHECK_INT(tws_read(&pair.client.transport, data, sizeof(data), &got,
                       &pair.client.err),
              TWS_AGAIN);
    CHECK_INT(reads, 2);
    end();
}

TEST(records_leave_together)
{
    static uint8_t data[200000];
    begin_secured(TLS1_3_VERSION);
    struct iovec parts[3] = {{.iov_base = data, .iov_len = 10},
                             {.iov_base = NULL, .iov_len = 0},
                             {.iov_base = data, .iov_len = 40000}};
    size_t written = 0;
    CHECK_INT(tws_writev(&pair.client.transport, parts, 3, &written,
                         &pair.client.err),
              TWS_OK);
    CHECK_INT(written, 40010);
    CHECK_INT(writes, 1);
    /* The parts share records: two full ones, and the rest. */
    CHECK_INT(written_bytes, 40010 + 3 * 22);
    CHECK(out()->memory == NULL);
    CHECK_INT(read_all_of(&pair.server, data, 40010), TWS_OK);
    reset();
    /* More than a few leave in steps, so that the buffer stays small. */
    int size = 1 << 20;
    MUST(setsockopt(pair.client.transport.fd, SOL_SOCKET, SO_SNDBUF, &size,
                    sizeof(size))
         == 0);
    CHECK_INT(tws_write(&pair.client.transport, data, 200000, &written,
                        &pair.client.err),
              TWS_OK);
    CHECK_INT(written, 200000);
    CHECK(largest_write <= 65536);
    CHECK(largest_write >= 48 * 1024);
    end();
}

/* What is not taken waits, and the last byte is not counted meanwhile. */
TEST(a_byte_is_owed_until_all_has_left)
{
    uint8_t data[16] = "";
    size_t written = 77;
    begin_secured(TLS1_3_VERSION);
    allowance = 5;
    CHECK_INT(tws_write(&pair.client.transport, "0123456789", 10, &written,
                        &pair.client.err),
              TWS_OK);
    CHECK_INT(written, 9);
    CHECK_INT(writes, 1); /* a short one is not tried again */
    for (int i = 0; i < 2; i++) {
        allowance = (size_t)i;
        CHECK_INT(tws_write(&pair.client.transport, "9", 1, &written,
                            &pair.client.err),
                  TWS_AGAIN);
        CHECK_INT(written, 9);
    }
    allowance = SIZE_MAX;
    CHECK_INT(tws_write(&pair.client.transport, "9ab", 3, &written,
                        &pair.client.err),
              TWS_OK);
    CHECK_INT(written, 3);
    CHECK_INT(read_all_of(&pair.server, data, 12), TWS_OK);
    CHECK_BYTES(data, 12, "0123456789ab");
    end();
}

TEST(one_byte_is_owed_too)
{
    uint8_t data[4] = "";
    size_t written = 77;
    begin_secured(TLS1_2_VERSION);
    allowance = 0;
    for (int i = 0; i < 3; i++) {
        CHECK_INT(tws_write(&pair.client.transport, "x", 1, &written,
                            &pair.client.err),
                  TWS_AGAIN);
        CHECK_INT(written, 77);
        allowance = 7;
    }
    allowance = SIZE_MAX;
    CHECK_INT(
        tws_write(&pair.client.transport, "x", 1, &written, &pair.client.err),
        TWS_OK);
    CHECK_INT(written, 1);
    CHECK_INT(
        tws_write(&pair.client.transport, "yz", 2, &written, &pair.client.err),
        TWS_OK);
    CHECK_INT(read_all_of(&pair.server, data, 3), TWS_OK);
    CHECK_BYTES(data, 3, "xyz");
    end();
}

/* The first byte may have an empty part in front of it. */
TEST(what_is_owed_is_skipped_wherever_it_lies)
{
    char first[] = "x";
    char second[] = "yz";
    uint8_t data[4] = "";
    size_t written = 0;
    begin_secured(TLS1_3_VERSION);
    struct iovec parts[4] = {{.iov_base = NULL, .iov_len = 0},
                             {.iov_base = first, .iov_len = 1},
                             {.iov_base = NULL, .iov_len = 0},
                             {.iov_base = second, .iov_len = 2}};
    allowance = 1;
    CHECK_INT(tws_writev(&pair.client.transport, parts, 2, &written,
                         &pair.client.err),
              TWS_AGAIN);
    allowance = SIZE_MAX;
    CHECK_INT(tws_writev(&pair.client.transport, parts, 1, &written,
                         &pair.client.err),
              TWS_OK);
    CHECK_INT(written, 0); /* it stays owed */
    CHECK_INT(tws_writev(&pair.client.transport, parts, 4, &written,
                         &pair.client.err),
              TWS_OK);
    CHECK_INT(written, 3);
    CHECK_INT(read_all_of(&pair.server, data, 3), TWS_OK);
    CHECK_BYTES(data, 3, "xyz");
    CHECK_INT(tws_writev(&pair.client.transport, parts, 1, &written,
                         &pair.client.err),
              TWS_OK);
    CHECK_INT(written, 0);
    end();
}

TEST(one_that_is_blocked_takes_little)
{
    static uint8_t data[1 << 20];
    size_t written = 0;
    begin_secured(TLS1_3_VERSION);
    allowance = 0;
    CHECK_INT(tws_write(&pair.client.transport, data, sizeof(data), &written,
                        &pair.client.err),
              TWS_OK);
    CHECK(written < 65536);
    CHECK(out()->capacity <= 65536);
    CHECK_INT(writes, 1);
    end();
}

TEST(errors_of_the_inner_transport)
{
    uint8_t data[8];
    size_t n;
    begin_secured(TLS1_3_VERSION);
    write_errno = EPIPE;
    for (int i = 0; i < 2; i++) {
        CHECK_INT(
            tws_write(&pair.client.transport, "x", 1, &n, &pair.client.err),
            TWS_OS);
        CHECK_INT(pair.client.err.sys_errno, EPIPE);
    }
    /* What came before can be read. */
    CHECK_INT(write_all(&pair.server, "last", 4), TWS_OK);
    CHECK_INT(read_all_of(&pair.client, data, 4), TWS_OK);
    CHECK_BYTES(data, 4, "last");
    read_errno = ECONNRESET;
    CHECK_INT(tws_read(&pair.client.transport, data, 8, &n, &pair.client.err),
              TWS_OS);
    CHECK_INT(pair.client.err.sys_errno, ECONNRESET);
    read_errno = write_errno = 0;
    CHECK_INT(tws_read(&pair.client.transport, data, 8, &n, &pair.client.err),
              TWS_OS);
    CHECK_INT(tws_write(&pair.client.transport, "x", 1, &n, &pair.client.err),
              TWS_OS);
    CHECK_INT(ERR_peek_error(), 0);
    end();
}

/* A failing write does not let the buffer grow. */
TEST(a_broken_transport_takes_little)
{
    static uint8_t data[1 << 20];
    size_t written = 0;
    begin_secured(TLS1_3_VERSION);
    write_errno = EPIPE;
    CHECK_INT(tws_write(&pair.client.transport, data, sizeof(data), &written,
                        &pair.client.err),
              TWS_OS);
    CHECK(out()->capacity <= 65536);
    end();
}

TEST(memory_runs_out)
{
    size_t written = 0;
    begin_secured(TLS1_3_VERSION);
    allocations_left = 0;
    for (int i = 0; i < 2; i++) {
        CHECK_INT(tws_write(&pair.client.transport, "x", 1, &written,
                            &pair.client.err),
                  TWS_NOMEM);
        allocations_left = -1; /* a record is lost: it does not go on */
    }
    end();
}

/* close_notify first, then the end, even where room comes late. */
TEST(the_end_follows_what_is_queued)
{
    static uint8_t data[30000];
    size_t n = 0;
    begin_secured(TLS1_3_VERSION);
    allowance = 10;
    CHECK_INT(
        tws_write(&pair.client.transport, data, 1000, &n, &pair.client.err),
        TWS_OK);
    pair.client.transport.ops->end_writing(&pair.client.transport);
    CHECK_INT(ends, 0);
    CHECK_INT(tws_write(&pair.client.transport, data, 1, &n, &pair.client.err),
              TWS_OS);
    CHECK_INT(pair.client.err.sys_errno, EPIPE);
    allowance = SIZE_MAX;
    CHECK_INT(tws_read(&pair.client.transport, data, 1, &n, &pair.client.err),
              TWS_AGAIN);
    CHECK_INT(ends, 1);
    CHECK_INT(read_all_of(&pair.server, data, 1000), TWS_OK);
    CHECK_INT(tws_read(&pair.server.transport, data, 1, &n, &pair.server.err),
              TWS_EOF);
    CHECK(SSL_get_shutdown(pair.server.transport.tls->ssl)
          == SSL_RECEIVED_SHUTDOWN);
    end();
}

TEST(the_end_of_a_broken_transport)
{
    begin_secured(TLS1_3_VERSION);
    write_errno = EPIPE;
    pair.client.transport.ops->end_writing(&pair.client.transport);
    CHECK_INT(ends, 1);
    end();
    begin(TLS1_3_VERSION); /* before the handshake there is nothing to say */
    pair.client.transport.ops->end_writing(&pair.client.transport);
    CHECK_INT(ends, 1);
    CHECK_INT(writes, 0);
    end();
}

RUN(T(a_handshake_writes_each_flight_at_once), T(a_short_read_is_the_last),
    T(records_leave_together), T(a_byte_is_owed_until_all_has_left),
    T(one_byte_is_owed_too), T(what_is_owed_is_skipped_wherever_it_lies),
    T(one_that_is_blocked_takes_little), T(errors_of_the_inner_transport),
    T(a_broken_transport_takes_little), T(memory_runs_out),
    T(the_end_follows_what_is_queued), T(the_end_of_a_broken_transport))
