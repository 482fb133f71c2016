#include "engine/half_open.h"

#include <netinet/in.h>
#include <stdlib.h>

enum tws_status
tws_half_open_init(struct tws_half_open *half_open, uint32_t limit,
                   uint32_t seed, struct tws_error *err)
{
    *half_open = (struct tws_half_open){.limit = limit, .seed = seed};
    if (limit == 0) {
        return TWS_OK;
    }
    half_open->buckets =
        calloc(TWS_HALF_OPEN_BUCKETS, sizeof(struct tws_half_open_entry *));
    return half_open->buckets == NULL ? tws_error_nomem(err) : TWS_OK;
}

void
tws_half_open_release(struct tws_half_open *half_open)
{
    free(half_open->buckets);
    half_open->buckets = NULL;
}

/* An IPv4 address (mapped into IPv6 or not), or the network of an IPv6 one.
 * False for other families. */
static bool
key_of(const struct tws_address *address, uint8_t key[TWS_HALF_OPEN_KEY])
{
    const struct sockaddr *any = (const struct sockaddr *)&address->storage;
    memset(key, 0, TWS_HALF_OPEN_KEY);
    if (any->sa_family == AF_INET) {
        const struct sockaddr_in *in =
            (const struct sockaddr_in *)&address->storage;
        key[0] = 4;
        memcpy(key + 1, &in->sin_addr, 4);
        return true;
    }
    if (any->sa_family != AF_INET6) {
        return false;
    }
    const struct sockaddr_in6 *in6 =
        (const struct sockaddr_in6 *)&address->storage;
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        key[0] = 4;
        memcpy(key + 1, in6->sin6_addr.s6_addr + 12, 4);
    }
    else {
        key[0] = 6;
        memcpy(key + 1, in6->sin6_addr.s6_addr, TWS_HALF_OPEN_KEY - 1);
    }
    return true;
}

static size_t
bucket_of(const struct tws_half_open *half_open,
          const uint8_t key[TWS_HALF_OPEN_KEY])
{
    uint32_t hash = half_open->seed ^ 2166136261U;
    for (int i = 0; i < TWS_HALF_OPEN_KEY; i++) {
        hash = (hash ^ key[i]) * 16777619U;
    }
    return (hash ^ hash >> 16) % TWS_HALF_OPEN_BUCKETS;
}

struct tws_half_open_entry *
tws_half_open_add(struct tws_half_open *half_open,
                  struct tws_half_open_entry *entry,
                  const struct tws_address *address)
{
    if (half_open->limit == 0 || !key_of(address, entry->key)) {
        return NULL;
    }
    struct tws_half_open_entry **bucket =
        &half_open->buckets[bucket_of(half_open, entry->key)];
    entry->next = *bucket;
    entry->link = bucket;
    if (entry->next != NULL) {
        entry->next->link = &entry->next;
    }
    *bucket = entry;

    uint32_t count = 1;
    struct tws_half_open_entry *oldest = entry;
    for (struct tws_half_open_entry *other = entry->next; other != NULL;
         other = other->next) {
        if (memcmp(other->key, entry->key, TWS_HALF_OPEN_KEY) == 0) {
            count++;
            oldest = other;
        }
    }
    if (count <= half_open->limit) {
        return NULL;
    }
    tws_half_open_remove(oldest);
    return oldest;
}

void
tws_half_open_remove(struct tws_half_open_entry *entry)
{
    if (entry->link == NULL) {
        return;
    }
    *entry->link = entry->next;
    if (entry->next != NULL) {
        entry->next->link = entry->link;
    }
    entry->link = NULL;
}
