#include "guard.h"
#include "harness.h"
#include "protocol/digest_nonces.h"

#define MS ((uint64_t)1000 * 1000)
#define SECOND (1000 * MS)
#define LIFETIME (300 * SECOND)

static const uint8_t SECRET[TWS_NONCE_SECRET] =
    "thirty-two bytes of no secret..";

struct fixture {
    struct tws_nonces *nonces;
    uint64_t now;
    uint64_t serial; /* stands for the random bytes */
};

struct nonce {
    char text[TWS_NONCE_LENGTH];
};

static void
begin(struct fixture *f)
{
    f->nonces = malloc(sizeof(*f->nonces));
    f->now = 7777 * SECOND;
    f->serial = 0;
    if (f->nonces == NULL) {
        abort();
    }
    tws_nonces_init(f->nonces, SECRET, LIFETIME);
}

static void
end(struct fixture *f)
{
    free(f->nonces);
}

static struct nonce
make(struct fixture *f)
{
    struct nonce nonce;
    struct tws_error err;
    uint8_t random[TWS_NONCE_RANDOM];
    tws_store_be64(random, ++f->serial);
    CHECK_INT(tws_nonces_make(f->nonces, f->now, random, nonce.text, &err),
              TWS_OK);
    return nonce;
}

static int
use_text(struct fixture *f, const char *text, size_t length, uint32_t count)
{
    enum tws_nonce_state state = TWS_NONCE_GOOD;
    struct tws_error err;
    struct guard guard = guard_copy(text, length);
    CHECK_INT(tws_nonces_use(f->nonces,
                             (struct tws_span){
                                 .data = (const char *)guard.data,
                                 .length = length,
                             },
                             count, f->now, &state, &err),
              TWS_OK);
    guard_free(&guard);
    return (int)state;
}

static int
use(struct fixture *f, const struct nonce *nonce, uint32_t count)
{
    return use_text(f, nonce->text, TWS_NONCE_LENGTH, count);
}

TEST(a_nonce_is_good_once_for_each_count)
{
    struct fixture f;
    begin(&f);
    struct nonce one = make(&f);
    struct nonce two = make(&f);
    CHECK(memcmp(one.text, two.text, sizeof(one.text)) != 0);
    CHECK_INT(use(&f, &one, 1), TWS_NONCE_GOOD);
    CHECK_INT(use(&f, &one, 1), TWS_NONCE_USED);
    CHECK_INT(use(&f, &two, 1), TWS_NONCE_GOOD);
    CHECK_INT(use(&f, &one, 2), TWS_NONCE_GOOD);
    CHECK_INT(use(&f, &one, 1), TWS_NONCE_USED);
    CHECK_INT(use(&f, &one, 2), TWS_NONCE_USED);
    CHECK_INT(use(&f, &two, 1), TWS_NONCE_USED);
    end(&f);
}

TEST(counts_may_come_out_of_order)
{
    struct fixture f;
    begin(&f);
    struct nonce nonce = make(&f);
    static const uint32_t FRESH[] = {
        10, 3,   64,  1,           73,          74,
        11, 200, 137, 4000000000u, 4000000001u, 3999999938u};
    for (size_t i = 0; i < sizeof(FRESH) / sizeof(FRESH[0]); i++) {
        CHECK_INT(use(&f, &nonce, FRESH[i]), TWS_NONCE_GOOD);
        for (size_t j = 0; j <= i; j++) {
            CHECK_INT(use(&f, &nonce, FRESH[j]), TWS_NONCE_USED);
        }
    }
    /* One too far behind to tell. */
    CHECK_INT(use(&f, &nonce, 3999999937u), TWS_NONCE_USED);
    CHECK_INT(use(&f, &nonce, 1), TWS_NONCE_USED);
    CHECK_INT(use(&f, &nonce, UINT32_MAX), TWS_NONCE_GOOD);
    CHECK_INT(use(&f, &nonce, UINT32_MAX), TWS_NONCE_USED);
    CHECK_INT(use(&f, &nonce, UINT32_MAX - 63), TWS_NONCE_GOOD);
    CHECK_INT(use(&f, &nonce, UINT32_MAX - 64), TWS_NONCE_USED);
    end(&f);
}

TEST(an_old_nonce_is_stale)
{
    struct fixture f;
    begin(&f);
    struct nonce nonce = make(&f);
    CHECK_INT(use(&f, &nonce, 1), TWS_NONCE_GOOD);
    f.now += LIFETIME;
    CHECK_INT(use(&f, &nonce, 2), TWS_NONCE_GOOD);
    f.now += MS;
    CHECK_INT(use(&f, &nonce, 3), TWS_NONCE_STALE);
    CHECK_INT(use(&f, &nonce, 1), TWS_NONCE_STALE);
    f.now -= 2 * LIFETIME; /* one that is from the future is none of ours */
    CHECK_INT(use(&f, &nonce, 4), TWS_NONCE_STALE);
    end(&f);
}

TEST(only_our_own_are_taken)
{
    struct fixture f;
    begin(&f);
    struct nonce nonce = make(&f);
    for (size_t i = 0; i < TWS_NONCE_LENGTH; i++) {
        static const char OTHERS[] = "0fF g/:`G\xff";
        for (size_t j = 0; j < sizeof(OTHERS); j++) {
            struct nonce changed = nonce;
            changed.text[i] = OTHERS[j];
            CHECK_INT(use(&f, &changed, 1), changed.text[i] == nonce.text[i]
                                                ? TWS_NONCE_GOOD
                                                : TWS_NONCE_FOREIGN);
            nonce = make(&f); /* that one may be used up */
        }
    }
    for (size_t length = 0; length < TWS_NONCE_LENGTH; length++) {
        CHECK_INT(use_text(&f, nonce.text, length, 1), TWS_NONCE_FOREIGN);
    }
    char longer[TWS_NONCE_LENGTH + 1];
    memcpy(longer, nonce.text, TWS_NONCE_LENGTH);
    longer[TWS_NONCE_LENGTH] = '0';
    CHECK_INT(use_text(&f, longer, sizeof(longer), 1), TWS_NONCE_FOREIGN);
    CHECK_INT(use(&f, &nonce, 1), TWS_NONCE_GOOD);
    CHECK_INT(f.nonces->count > 0, 1);

    /* By another secret. */
    struct fixture g;
    begin(&g);
    g.nonces->secret[31] ^= 1;
    nonce = make(&f);
    CHECK_INT(use(&g, &nonce, 1), TWS_NONCE_FOREIGN);
    CHECK_INT(g.nonces->count, 0);
    end(&g);
    end(&f);
}

TEST(what_is_refused_takes_no_room)
{
    struct fixture f;
    begin(&f);
    struct nonce nonce = make(&f);
    nonce.text[0] ^= 1;
    CHECK_INT(use(&f, &nonce, 1), TWS_NONCE_FOREIGN);
    nonce = make(&f);
    f.now += LIFETIME + MS;
    CHECK_INT(use(&f, &nonce, 1), TWS_NONCE_STALE);
    CHECK_INT(f.nonces->count, 0);
    end(&f);
}

/* Every number of an entry stands in exactly one chain. */
static void
check_chains(const struct tws_nonces *nonces)
{
    size_t linked = 0;
    for (size_t i = 0; i < TWS_NONCES_CHAINS; i++) {
        for (uint16_t number = nonces->chains[i]; number != 0;
             number = nonces->entries[number - 1].next) {
            linked++;
            if (linked > nonces->count) {
                CHECK(false); /* a circle, or an entry that is not in use */
                return;
            }
            CHECK(number <= nonces->count);
        }
    }
    CHECK_INT(linked, nonces->count);
}

TEST(room_is_bounded_and_the_oldest_go)
{
    enum { MORE = 1000, ALL = TWS_NONCES_MAX + MORE };
    struct fixture f;
    struct nonce *all = calloc(ALL, sizeof(*all));
    CHECK(all != NULL);
    begin(&f);
    for (int i = 0; i < ALL; i++) {
        f.now += MS;
        all[i] = make(&f);
        CHECK_INT(use(&f, &all[i], 1), TWS_NONCE_GOOD);
    }
    check_chains(f.nonces);
    CHECK_INT(f.nonces->count, TWS_NONCES_MAX);
    for (int i = 0; i < ALL; i++) {
        /* A forgotten one is not good for a replay, nor for a new count. */
        CHECK_INT(use(&f, &all[i], 1),
                  i < MORE ? TWS_NONCE_STALE : TWS_NONCE_USED);
        CHECK_INT(use(&f, &all[i], 2),
                  i < MORE ? TWS_NONCE_STALE : TWS_NONCE_GOOD);
    }
    check_chains(f.nonces);
    end(&f);
    free(all);
}

TEST(with_the_forgotten_go_all_as_old)
{
    struct fixture f;
    begin(&f);
    struct nonce sleeper = make(&f); /* is not used for now */
    struct nonce first = make(&f);   /* of the same millisecond */
    CHECK_INT(use(&f, &first, 1), TWS_NONCE_GOOD);
    f.now += MS;
    struct nonce later = make(&f);
    for (int i = 0; i < TWS_NONCES_MAX; i++) {
        f.now += MS;
        struct nonce nonce = make(&f);
        CHECK_INT(use(&f, &nonce, 1), TWS_NONCE_GOOD);
    }
    CHECK_INT(use(&f, &first, 1), TWS_NONCE_STALE);
    CHECK_INT(use(&f, &sleeper, 1), TWS_NONCE_STALE);
    CHECK_INT(use(&f, &later, 1), TWS_NONCE_GOOD);
    check_chains(f.nonces);
    end(&f);
}

TEST(a_nonce_from_the_beginning_of_time_is_forgotten_too)
{
    struct fixture f;
    begin(&f);
    f.now = 0;
    struct nonce first = make(&f);
    CHECK_INT(use(&f, &first, 1), TWS_NONCE_GOOD);
    for (int i = 0; i < TWS_NONCES_MAX; i++) {
        f.now += MS;
        struct nonce nonce = make(&f);
        CHECK_INT(use(&f, &nonce, 1), TWS_NONCE_GOOD);
    }
    CHECK_INT(use(&f, &first, 1), TWS_NONCE_STALE);
    end(&f);
}

TEST(forgetting_all_makes_all_stale)
{
    struct fixture f;
    begin(&f);
    struct nonce used = make(&f);
    struct nonce unused = make(&f);
    CHECK_INT(use(&f, &used, 1), TWS_NONCE_GOOD);
    tws_nonces_forget(f.nonces, f.now);
    check_chains(f.nonces);
    CHECK_INT(use(&f, &used, 1), TWS_NONCE_STALE);
    CHECK_INT(use(&f, &used, 2), TWS_NONCE_STALE);
    CHECK_INT(use(&f, &unused, 1), TWS_NONCE_STALE);
    f.now += MS;
    struct nonce fresh = make(&f);
    CHECK_INT(use(&f, &fresh, 1), TWS_NONCE_GOOD);
    CHECK_INT(use(&f, &fresh, 1), TWS_NONCE_USED);
    end(&f);
}

/* Entries that share chains, put in and taken out again and again. */
TEST(chains_stay_whole)
{
    struct fixture f;
    begin(&f);
    uint64_t seed = 12345;
    for (int round = 0; round < 5 * TWS_NONCES_MAX; round++) {
        uint8_t random[TWS_NONCE_RANDOM] = {0};
        struct nonce nonce;
        struct tws_error err;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        tws_store_be16(random, (uint16_t)(seed >> 33)); /* makes it unique */
        random[7] = (uint8_t)(seed >> 60);              /* one of 16 chains */
        f.now += MS;
        CHECK_INT(tws_nonces_make(f.nonces, f.now, random, nonce.text, &err),
                  TWS_OK);
        CHECK_INT(use(&f, &nonce, 1), TWS_NONCE_GOOD);
        CHECK_INT(use(&f, &nonce, 1), TWS_NONCE_USED);
        if (round % 997 == 0) {
            check_chains(f.nonces);
        }
        if (round % 7 == 0) {
            f.now += SECOND / 4;
        }
    }
    check_chains(f.nonces);
    end(&f);
}

RUN(T(a_nonce_is_good_once_for_each_count), T(counts_may_come_out_of_order),
    T(an_old_nonce_is_stale), T(only_our_own_are_taken),
    T(what_is_refused_takes_no_room), T(room_is_bounded_and_the_oldest_go),
    T(with_the_forgotten_go_all_as_old),
    T(a_nonce_from_the_beginning_of_time_is_forgotten_too),
    T(forgetting_all_makes_all_stale), T(chains_stay_whole))
