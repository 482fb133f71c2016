#include "net/tls_session_cache.h"

#include <stdlib.h>
#include <time.h>

bool
tws_tls_session_cache_init(struct tws_tls_session_cache *cache)
{
    *cache = (struct tws_tls_session_cache){0};
    return pthread_mutex_init(&cache->lock, NULL) == 0;
}

static void
clear(struct tws_tls_session *entry)
{
    SSL_SESSION_free(entry->session);
    free(entry->key);
    *entry = (struct tws_tls_session){0};
}

void
tws_tls_session_cache_fini(struct tws_tls_session_cache *cache)
{
    if (cache->sessions != NULL) {
        for (size_t i = 0; i < TWS_TLS_SESSIONS; i++) {
            clear(&cache->sessions[i]);
        }
        free(cache->sessions);
    }
    pthread_mutex_destroy(&cache->lock);
}

/* The entry of the key, or NULL. */
static struct tws_tls_session *
find_lock_held(struct tws_tls_session_cache *cache, const char *key)
{
    if (cache->sessions == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < TWS_TLS_SESSIONS; i++) {
        struct tws_tls_session *entry = &cache->sessions[i];
        if (entry->key != NULL && strcmp(entry->key, key) == 0) {
            return entry;
        }
    }
    return NULL;
}

/* A free place has never been added to: it is older than any other. */
static struct tws_tls_session *
oldest_lock_held(struct tws_tls_session_cache *cache)
{
    struct tws_tls_session *oldest = &cache->sessions[0];
    for (size_t i = 1; i < TWS_TLS_SESSIONS; i++) {
        if (cache->sessions[i].added < oldest->added) {
            oldest = &cache->sessions[i];
        }
    }
    return oldest;
}

/* Where the key's session goes, with its key; NULL: out of memory. */
static struct tws_tls_session *
make_lock_held(struct tws_tls_session_cache *cache, const char *key)
{
    if (cache->sessions == NULL) {
        cache->sessions = calloc(TWS_TLS_SESSIONS, sizeof(*cache->sessions));
        if (cache->sessions == NULL) {
            return NULL;
        }
    }
    char *copy = strdup(key);
    if (copy == NULL) {
        return NULL;
    }
    struct tws_tls_session *entry = oldest_lock_held(cache);
    clear(entry);
    entry->key = copy;
    return entry;
}

bool
tws_tls_session_cache_put(struct tws_tls_session_cache *cache, const char *key,
                          SSL_SESSION *session)
{
    pthread_mutex_lock(&cache->lock);
    struct tws_tls_session *entry = find_lock_held(cache, key);
    if (entry == NULL) {
        entry = make_lock_held(cache, key);
    }
    if (entry != NULL) {
        SSL_SESSION_free(entry->session);
        entry->session = session;
        cache->added++;
        entry->added = cache->added;
    }
    pthread_mutex_unlock(&cache->lock);
    return entry != NULL;
}

static bool
may_be_resumed(SSL_SESSION *session)
{
    time_t now = time(NULL);
    time_t made = (time_t)SSL_SESSION_get_time(session);
    return SSL_SESSION_is_resumable(session) && now >= made
           && now - made < (time_t)SSL_SESSION_get_timeout(session);
}

SSL_SESSION *
tws_tls_session_cache_take(struct tws_tls_session_cache *cache,
                           const char *key)
{
    SSL_SESSION *session = NULL;
    pthread_mutex_lock(&cache->lock);
    struct tws_tls_session *entry = find_lock_held(cache, key);
    if (entry != NULL) {
        if (!may_be_resumed(entry->session)) {
            clear(entry);
        }
        else if (SSL_SESSION_get_protocol_version(entry->session)
                 >= TLS1_3_VERSION) {
            session = entry->session;
            entry->session = NULL;
            clear(entry);
        }
        else {
            /* A connection changes its session: each has its own. */
            session = SSL_SESSION_dup(entry->session);
        }
    }
    pthread_mutex_unlock(&cache->lock);
    return session;
}

void
tws_tls_session_cache_forget(struct tws_tls_session_cache *cache,
                             const char *key)
{
    pthread_mutex_lock(&cache->lock);
    struct tws_tls_session *entry = find_lock_held(cache, key);
    if (entry != NULL) {
        clear(entry);
    }
    pthread_mutex_unlock(&cache->lock);
}
