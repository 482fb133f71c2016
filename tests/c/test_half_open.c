/* Compiled in here with an allocation that a test can make fail. */
#include "engine/half_open.h"

#include "harness.h"

#include <arpa/inet.h>
#include <sys/un.h>

static bool no_memory;

static void *
take_memory(size_t count, size_t size)
{
    return no_memory ? NULL : calloc(count, size);
}

#define calloc take_memory
#include "../../csrc/engine/half_open.c"
#undef calloc

static struct tws_half_open
new_half_open(uint32_t limit, uint32_t seed)
{
    struct tws_half_open half_open;
    struct tws_error err;
    memset(&half_open, 0xff, sizeof(half_open));
    CHECK_INT(tws_half_open_init(&half_open, limit, seed, &err), TWS_OK);
    return half_open;
}

static struct tws_address
address_of(const char *text)
{
    static uint16_t port; /* each comes from another one */
    struct tws_address address = {0};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = ++port};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = port};
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
        memcpy(&address.storage, &in, sizeof(in));
        address.length = sizeof(in);
    }
    else {
        CHECK_INT(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
        memcpy(&address.storage, &in6, sizeof(in6));
        address.length = sizeof(in6);
    }
    return address;
}

static struct tws_half_open_entry *
add(struct tws_half_open *half_open, struct tws_half_open_entry *entry,
    const char *text)
{
    struct tws_address address = address_of(text);
    return tws_half_open_add(half_open, entry, &address);
}

/* Whether a limit of one takes them for the same. */
static bool
count_together(const char *one, const char *other)
{
    struct tws_half_open half_open = new_half_open(1, 7);
    struct tws_half_open_entry entries[2] = {0};
    CHECK(add(&half_open, &entries[0], one) == NULL);
    struct tws_half_open_entry *oldest = add(&half_open, &entries[1], other);
    CHECK(oldest == NULL || oldest == &entries[0]);
    tws_half_open_release(&half_open);
    return oldest != NULL;
}

TEST(without_a_limit_nothing_is_counted)
{
    struct tws_half_open half_open = new_half_open(0, 1);
    struct tws_half_open_entry entries[3] = {0};
    CHECK(half_open.buckets == NULL);
    for (int i = 0; i < 3; i++) {
        CHECK(add(&half_open, &entries[i], "127.0.0.1") == NULL);
        CHECK(entries[i].link == NULL);
        tws_half_open_remove(&entries[i]);
    }
    tws_half_open_release(&half_open);
    half_open = (struct tws_half_open){0};
    CHECK(add(&half_open, &entries[0], "127.0.0.1") == NULL);
    tws_half_open_release(&half_open);
}

TEST(beyond_the_limit_the_oldest_comes_out)
{
    struct tws_half_open half_open = new_half_open(3, 1);
    struct tws_half_open_entry entries[10] = {0};
    for (int i = 0; i < 10; i++) {
        struct tws_half_open_entry *oldest =
            add(&half_open, &entries[i], "192.0.2.1");
        CHECK(oldest == (i < 3 ? NULL : &entries[i - 3]));
        CHECK(oldest == NULL || oldest->link == NULL);
        CHECK(entries[i].link != NULL);
    }
    for (int i = 0; i < 10; i++) {
        tws_half_open_remove(&entries[i]); /* of some that are out already */
        CHECK(entries[i].link == NULL);
    }
    /* None of them is left. */
    for (int i = 0; i < 3; i++) {
        CHECK(add(&half_open, &entries[i], "192.0.2.1") == NULL);
    }
    tws_half_open_release(&half_open);
}

TEST(what_was_removed_makes_room)
{
    struct tws_half_open_entry entries[5];
    for (int gone = 0; gone < 3; gone++) {
        struct tws_half_open half_open = new_half_open(3, 1);
        memset(entries, 0, sizeof(entries));
        for (int i = 0; i < 3; i++) {
            CHECK(add(&half_open, &entries[i], "192.0.2.1") == NULL);
        }
        tws_half_open_remove(&entries[gone]);
        tws_half_open_remove(&entries[gone]); /* once more does no harm */
        CHECK(add(&half_open, &entries[3], "192.0.2.1") == NULL);
        /* The oldest of those that are left. */
        CHECK(add(&half_open, &entries[4], "192.0.2.1")
              == (gone == 0 ? &entries[1] : &entries[0]));
        tws_half_open_release(&half_open);
    }
}

TEST(each_ipv4_address_counts_for_itself)
{
    CHECK(count_together("192.0.2.1", "192.0.2.1"));
    CHECK(!count_together("192.0.2.1", "192.0.2.2"));
    CHECK(!count_together("192.0.2.1", "193.0.2.1"));
    CHECK(!count_together("0.0.0.0", "0.0.0.1"));
}

TEST(a_mapped_ipv4_address_is_that_address)
{
    CHECK(count_together("192.0.2.1", "::ffff:192.0.2.1"));
    CHECK(count_together("::ffff:192.0.2.1", "::ffff:192.0.2.1"));
    CHECK(!count_together("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
}

TEST(an_ipv6_network_of_64_bits_counts_as_one)
{
    CHECK(count_together("2001:db8::1", "2001:db8::1"));
    CHECK(count_together("2001:db8::1", "2001:db8::2"));
    CHECK(count_together("2001:db8::1", "2001:db8::ffff:1:2:3"));
    CHECK(!count_together("2001:db8::1", "2001:db8:0:1::1"));
    CHECK(!count_together("2001:db8::1", "2101:db8::1"));
}

TEST(an_ipv4_address_is_no_network)
{
    CHECK(!count_together("192.0.2.1", "c000:201::1"));
    CHECK(!count_together("::1", "0.0.0.0"));
    CHECK(!count_together("::1", "::ffff:0.0.0.0"));
}

TEST(other_families_are_not_counted)
{
    struct tws_half_open half_open = new_half_open(1, 1);
    struct tws_half_open_entry entries[3] = {0};
    struct tws_address unix_address = {.length = sizeof(struct sockaddr_un)};
    struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/tmp/x"};
    memcpy(&unix_address.storage, &un, sizeof(un));
    struct tws_address unknown = {0};
    for (int i = 0; i < 3; i++) {
        CHECK(tws_half_open_add(&half_open, &entries[i], &unix_address)
              == NULL);
        CHECK(entries[i].link == NULL);
        CHECK(tws_half_open_add(&half_open, &entries[i], &unknown) == NULL);
        tws_half_open_remove(&entries[i]);
    }
    tws_half_open_release(&half_open);
}

static uint64_t
next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

enum { PEERS = 40, ENTRIES = 300, LIMIT = 4, STEPS = 50000 };

/* The oldest of one peer's, counting them; times of entry are unique. */
static int
model_oldest(const int peer_of[ENTRIES], const int since[ENTRIES], int peer,
             unsigned *count)
{
    int oldest = -1;
    *count = 0;
    for (int i = 0; i < ENTRIES; i++) {
        if (peer_of[i] == peer) {
            (*count)++;
            if (oldest < 0 || since[i] < since[oldest]) {
                oldest = i;
            }
        }
    }
    return oldest;
}

TEST(random_changes_agree_with_a_naive_model)
{
    struct tws_half_open half_open = new_half_open(LIMIT, 0xdecade);
    struct tws_half_open_entry entries[ENTRIES] = {0};
    int peer_of[ENTRIES];
    int since[ENTRIES] = {0};
    uint64_t random = 0x9e3779b97f4a7c15;
    unsigned dropped = 0;
    memset(peer_of, 0xff, sizeof(peer_of));
    for (int step = 0; step < STEPS; step++) {
        int i = (int)(next_random(&random) % ENTRIES);
        if (peer_of[i] >= 0) {
            tws_half_open_remove(&entries[i]);
            CHECK(entries[i].link == NULL);
            peer_of[i] = -1;
            continue;
        }
        char text[40];
        unsigned count;
        int peer = (int)(next_random(&random) % PEERS);
        (void)snprintf(text, sizeof(text),
                       peer % 2 == 0 ? "10.0.0.%d" : "2001:db8:0:%x::1", peer);
        peer_of[i] = peer;
        since[i] = step;
        int oldest = model_oldest(peer_of, since, peer, &count);
        struct tws_half_open_entry *out = add(&half_open, &entries[i], text);
        CHECK(out == (count > LIMIT ? &entries[oldest] : NULL));
        if (count > LIMIT) {
            peer_of[oldest] = -1;
            dropped++;
        }
    }
    CHECK(dropped > 100);
    tws_half_open_release(&half_open);
}

static size_t
fullest(const struct tws_half_open *half_open)
{
    size_t most = 0;
    for (size_t i = 0; i < TWS_HALF_OPEN_BUCKETS; i++) {
        size_t count = 0;
        for (const struct tws_half_open_entry *entry = half_open->buckets[i];
             entry != NULL; entry = entry->next) {
            count++;
        }
        most = count > most ? count : most;
    }
    return most;
}

enum { NETWORKS = 65536, PILE = NETWORKS / TWS_HALF_OPEN_BUCKETS };

static struct tws_address
network(unsigned number)
{
    struct tws_address address = {.length = sizeof(struct sockaddr_in6)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    in6.sin6_addr.s6_addr[0] = 0x20;
    in6.sin6_addr.s6_addr[6] = (uint8_t)(number >> 8);
    in6.sin6_addr.s6_addr[7] = (uint8_t)number;
    memcpy(&address.storage, &in6, sizeof(in6));
    return address;
}

/* Who knew the seed could have all its networks in one bucket. */
TEST(what_piles_up_for_one_seed_spreads_for_another)
{
    struct tws_half_open known = new_half_open(1, 1);
    struct tws_half_open_entry *entries = calloc(NETWORKS, sizeof(*entries));
    for (unsigned i = 0; i < NETWORKS; i++) {
        struct tws_address address = network(i);
        CHECK(tws_half_open_add(&known, &entries[i], &address) == NULL);
    }
    CHECK(fullest(&known) < 3 * PILE);
    for (uint32_t seed = 2; seed < 10; seed++) {
        struct tws_half_open unknown = new_half_open(1, seed * 2654435761U);
        struct tws_half_open_entry piled[4 * PILE] = {0};
        size_t count = 0;
        for (const struct tws_half_open_entry *entry = known.buckets[0];
             entry != NULL; entry = entry->next) {
            struct tws_address address = network((unsigned)(entry - entries));
            CHECK(tws_half_open_add(&unknown, &piled[count++], &address)
                  == NULL);
        }
        CHECK(count > PILE / 3);
        CHECK(fullest(&unknown) <= count / 4);
        tws_half_open_release(&unknown);
    }
    free(entries);
    tws_half_open_release(&known);
}

TEST(without_memory_there_is_none)
{
    struct tws_half_open half_open;
    struct tws_error err;
    no_memory = true;
    CHECK_INT(tws_half_open_init(&half_open, 5, 1, &err), TWS_NOMEM);
    CHECK_INT(err.status, TWS_NOMEM);
    /* Where nothing is counted none is needed. */
    CHECK_INT(tws_half_open_init(&half_open, 0, 1, &err), TWS_OK);
    no_memory = false;
    tws_half_open_release(&half_open);
}

RUN(T(without_a_limit_nothing_is_counted),
    T(beyond_the_limit_the_oldest_comes_out), T(what_was_removed_makes_room),
    T(each_ipv4_address_counts_for_itself),
    T(a_mapped_ipv4_address_is_that_address),
    T(an_ipv6_network_of_64_bits_counts_as_one),
    T(an_ipv4_address_is_no_network), T(other_families_are_not_counted),
    T(random_changes_agree_with_a_naive_model),
    T(what_piles_up_for_one_seed_spreads_for_another),
    T(without_memory_there_is_none))
