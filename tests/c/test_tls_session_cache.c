#include "net/tls_session_cache.h"

#include "harness.h"

#include <time.h>

static struct tws_tls_session_cache cache;

static SSL_SESSION *
new_session(uint8_t id, int version)
{
    SSL_SESSION *session = SSL_SESSION_new();
    unsigned char bytes[32] = {id};
    if (session == NULL
        || SSL_SESSION_set_protocol_version(session, version) != 1
        || SSL_SESSION_set1_id(session, bytes, sizeof(bytes)) != 1) {
        abort();
    }
    (void)SSL_SESSION_set_time(session, time(NULL));
    (void)SSL_SESSION_set_timeout(session, 300);
    return session;
}

static void
put(const char *key, uint8_t id, int version)
{
    CHECK(tws_tls_session_cache_put(&cache, key, new_session(id, version)));
}

/* The id of what is found, or -1. */
static int
take(const char *key)
{
    SSL_SESSION *session = tws_tls_session_cache_take(&cache, key);
    unsigned length;
    int id;
    if (session == NULL) {
        return -1;
    }
    id = SSL_SESSION_get_id(session, &length)[0];
    SSL_SESSION_free(session);
    return id;
}

TEST(an_empty_one_has_nothing)
{
    CHECK(tws_tls_session_cache_init(&cache));
    CHECK_INT(take("a"), -1);
    tws_tls_session_cache_forget(&cache, "a");
    tws_tls_session_cache_fini(&cache);
}

TEST(the_latest_of_each_peer_is_kept)
{
    CHECK(tws_tls_session_cache_init(&cache));
    put("a", 1, TLS1_2_VERSION);
    put("b", 2, TLS1_2_VERSION);
    put("a", 3, TLS1_2_VERSION);
    CHECK_INT(take("a"), 3);
    CHECK_INT(take("b"), 2);
    CHECK_INT(take("c"), -1);
    tws_tls_session_cache_forget(&cache, "a");
    CHECK_INT(take("a"), -1);
    CHECK_INT(take("b"), 2);
    tws_tls_session_cache_fini(&cache);
}

/* RFC 8446 appendix C.4. */
TEST(one_of_tls_1_3_is_used_once)
{
    CHECK(tws_tls_session_cache_init(&cache));
    put("a", 1, TLS1_3_VERSION);
    CHECK_INT(take("a"), 1);
    CHECK_INT(take("a"), -1);
    put("b", 2, TLS1_2_VERSION);
    CHECK_INT(take("b"), 2);
    CHECK_INT(take("b"), 2);
    tws_tls_session_cache_fini(&cache);
}

TEST(what_is_taken_is_not_shared)
{
    CHECK(tws_tls_session_cache_init(&cache));
    put("a", 1, TLS1_2_VERSION);
    SSL_SESSION *first = tws_tls_session_cache_take(&cache, "a");
    SSL_SESSION *second = tws_tls_session_cache_take(&cache, "a");
    CHECK(first != NULL && second != NULL && first != second);
    SSL_SESSION_free(first);
    SSL_SESSION_free(second);
    tws_tls_session_cache_fini(&cache);
}

TEST(the_oldest_makes_room)
{
    char key[24];
    CHECK(tws_tls_session_cache_init(&cache));
    for (int i = 0; i < TWS_TLS_SESSIONS; i++) {
        (void)snprintf(key, sizeof(key), "peer %d", i);
        put(key, (uint8_t)i, TLS1_2_VERSION);
    }
    put("peer 0", 100, TLS1_2_VERSION); /* the youngest now */
    put("one more", 101, TLS1_2_VERSION);
    CHECK_INT(take("peer 0"), 100);
    CHECK_INT(take("peer 1"), -1);
    CHECK_INT(take("peer 2"), 2);
    CHECK_INT(take("one more"), 101);
    tws_tls_session_cache_fini(&cache);
}

TEST(one_that_is_too_old_is_forgotten)
{
    SSL_SESSION *old = new_session(1, TLS1_2_VERSION);
    SSL_SESSION *future = new_session(2, TLS1_2_VERSION);
    CHECK(tws_tls_session_cache_init(&cache));
    (void)SSL_SESSION_set_time(old, time(NULL) - 301);
    (void)SSL_SESSION_set_time(future, time(NULL) + 3600);
    CHECK(tws_tls_session_cache_put(&cache, "old", old));
    CHECK(tws_tls_session_cache_put(&cache, "future", future));
    CHECK_INT(take("old"), -1);
    CHECK_INT(take("future"), -1);
    tws_tls_session_cache_fini(&cache);
}

RUN(T(an_empty_one_has_nothing), T(the_latest_of_each_peer_is_kept),
    T(one_of_tls_1_3_is_used_once), T(what_is_taken_is_not_shared),
    T(the_oldest_makes_room), T(one_that_is_too_old_is_forgotten))
