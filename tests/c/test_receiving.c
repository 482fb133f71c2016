/* What reading needs of a client: lent by its worker, kept while something is
 * unfinished, and given back. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_without_memory;

static void *
scarce_malloc(size_t size)
{
    return is_without_memory ? NULL : malloc(size);
}

#define malloc scarce_malloc
#include "../../csrc/engine/receiving.c"
#undef malloc

#include "harness.h"
#include "protocol/message_stream.h"

static struct tws_client client;
static struct tws_worker worker;
static const struct tws_message_limits limits = {.size = 1000,
                                                 .fragments = 10};

static void
set_up(void)
{
    client = (struct tws_client){.rules = {.opcodes = 1u << 3, .rsv = 0x20}};
    worker = (struct tws_worker){0};
    worker.receiving = malloc(sizeof(*worker.receiving));
    if (worker.receiving == NULL) {
        abort();
    }
    /* What it was before does not matter. */
    memset(worker.receiving, 0xa5, sizeof(*worker.receiving));
}

static void
tear_down(void)
{
    tws_receiving_free(client.receiving);
    free(worker.receiving); /* the sanitizer looks for what is left */
}

/* Takes these bytes, and what they are part of; true with an event. */
static bool
take(const char *bytes, size_t length)
{
    uint8_t copy[64];
    struct tws_event event;
    struct tws_error err;
    struct tws_input input = {.data = copy, .length = length};
    memcpy(copy, bytes, length);
    enum tws_status status =
        tws_receive(&client.receiving->reader, &client.receiving->assembler,
                    &limits, &input, &event, &err);
    CHECK(status == TWS_OK || status == TWS_AGAIN);
    tws_assembler_settle(&client.receiving->assembler);
    return status == TWS_OK;
}

/* Masked with zeros. */
#define WHOLE "\x81\x85\0\0\0\0hello"

TEST(the_workers_is_lent_and_returned)
{
    set_up();
    struct tws_receiving *lent = worker.receiving;
    for (int i = 0; i < 3; i++) {
        tws_receiving_lend(&worker, &client);
        CHECK(client.receiving == lent);
        CHECK(take(WHOLE, 11));
        is_without_memory = true; /* none is needed */
        CHECK(tws_receiving_take_back(&worker, &client));
        is_without_memory = false;
        CHECK(client.receiving == NULL);
        CHECK(worker.receiving == lent);
    }
    tear_down();
}

TEST(what_was_agreed_on_holds_each_time)
{
    struct tws_compression *compression = (void *)&limits; /* an address */
    set_up();
    client.compression = compression;
    client.rules.leaves_masked = true;
    for (int i = 0; i < 2; i++) {
        tws_receiving_lend(&worker, &client);
        CHECK_INT(client.receiving->reader.rsv_allowed, 0x20);
        CHECK_INT(client.receiving->reader.opcodes_allowed, 1u << 3);
        CHECK_INT(client.receiving->reader.role, TWS_SERVER);
        CHECK(client.receiving->assembler.compression == compression);
        CHECK(client.receiving->assembler.leaves_masked);
        CHECK(tws_receiving_take_back(&worker, &client));
    }
    tear_down();
}

TEST(what_is_unfinished_stays_with_the_client)
{
    static const struct {
        const char *bytes;
        size_t length;
    } beginnings[] = {
        {"\x81", 1},                   /* half a header */
        {WHOLE, 8},                    /* half a payload */
        {"\x01\x85\0\0\0\0hello", 11}, /* a fragment */
        {"\x89\x85\0\0\0\0he", 8},     /* half a ping */
    };
    for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
        set_up();
        struct tws_receiving *lent = worker.receiving;
        tws_receiving_lend(&worker, &client);
        CHECK(!take(beginnings[i].bytes, beginnings[i].length));
        CHECK(tws_receiving_take_back(&worker, &client));
        CHECK(client.receiving == lent);
        CHECK(worker.receiving != NULL && worker.receiving != lent);
        /* And is there when it is served again. */
        tws_receiving_lend(&worker, &client);
        CHECK(client.receiving == lent);
        CHECK(tws_receiving_take_back(&worker, &client));
        CHECK(client.receiving == lent);
        tear_down();
    }
}

TEST(what_is_finished_later_is_freed)
{
    set_up();
    tws_receiving_lend(&worker, &client);
    CHECK(!take(WHOLE, 8));
    CHECK(tws_receiving_take_back(&worker, &client));
    struct tws_receiving *of_worker = worker.receiving;
    tws_receiving_lend(&worker, &client);
    CHECK(take(WHOLE + 8, 3));
    CHECK(tws_receiving_take_back(&worker, &client));
    CHECK(client.receiving == NULL);
    CHECK(worker.receiving == of_worker);
    tear_down();
}

TEST(what_is_not_parsed_stays_too)
{
    set_up();
    client.receiving = tws_receiving_new(&client);
    CHECK(client.receiving != NULL);
    CHECK_INT(tws_buffer_append(&client.receiving->unread, "rest", 4), TWS_OK);
    tws_receiving_lend(&worker, &client);
    CHECK(tws_receiving_take_back(&worker, &client));
    CHECK(client.receiving != NULL && client.receiving != worker.receiving);
    tws_buffer_consume(&client.receiving->unread, 4);
    CHECK(tws_receiving_take_back(&worker, &client));
    CHECK(client.receiving == NULL);
    tear_down();
}

/* Else a RecvStream could take another message for its own. */
TEST(numbers_of_messages_in_chunks_are_never_used_again)
{
    struct tws_error err;
    set_up();
    for (uint32_t i = 1; i <= 3; i++) {
        tws_receiving_lend(&worker, &client);
        struct tws_assembler *assembler = &client.receiving->assembler;
        CHECK_INT(tws_message_stream_begin(assembler, 100, &err), TWS_OK);
        CHECK_INT(assembler->stream, i);
        /* It waits for its message. */
        CHECK(tws_receiving_take_back(&worker, &client));
        CHECK(client.receiving != NULL);
        tws_message_stream_discard(assembler);
        CHECK(tws_receiving_take_back(&worker, &client));
        CHECK(client.receiving == NULL);
        worker.receiving->assembler.stream = 70; /* of another client */
    }
    tear_down();
}

TEST(without_memory_nothing_changes)
{
    set_up();
    struct tws_receiving *lent = worker.receiving;
    tws_receiving_lend(&worker, &client);
    CHECK(!take(WHOLE, 8));
    is_without_memory = true;
    CHECK(!tws_receiving_take_back(&worker, &client));
    CHECK(tws_receiving_new(&client) == NULL);
    is_without_memory = false;
    CHECK(client.receiving == lent);
    CHECK(worker.receiving == lent);
    tws_receiving_end(&worker, &client);
    CHECK(client.receiving == NULL);
    CHECK(worker.receiving == lent);
    tear_down();
}

TEST(at_the_end_nothing_is_left)
{
    set_up();
    struct tws_receiving *lent = worker.receiving;
    tws_receiving_lend(&worker, &client);
    CHECK(!take("\x01\x85\0\0\0\0hello", 11));
    tws_receiving_end(&worker, &client); /* the worker's */
    CHECK(client.receiving == NULL);
    CHECK(worker.receiving == lent);
    tws_receiving_lend(&worker, &client);
    CHECK(!take("\x01\x85\0\0\0\0hello", 11));
    CHECK(tws_receiving_take_back(&worker, &client));
    tws_receiving_end(&worker, &client); /* its own */
    CHECK(client.receiving == NULL);
    CHECK(worker.receiving != lent);
    tear_down();
}

RUN(T(the_workers_is_lent_and_returned), T(what_was_agreed_on_holds_each_time),
    T(what_is_unfinished_stays_with_the_client),
    T(what_is_finished_later_is_freed), T(what_is_not_parsed_stays_too),
    T(numbers_of_messages_in_chunks_are_never_used_again),
    T(without_memory_nothing_changes), T(at_the_end_nothing_is_left))
