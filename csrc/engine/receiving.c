#include "engine/receiving.h"

#include "engine/client.h"
#include "engine/worker.h"

#include <stdlib.h>

static void
begin(struct tws_receiving *receiving, const struct tws_client *client)
{
    *receiving = (struct tws_receiving){0};
    tws_frame_reader_init(&receiving->reader, TWS_SERVER);
    receiving->reader.rsv_allowed = client->rules.rsv;
    receiving->reader.opcodes_allowed = client->rules.opcodes;
    receiving->assembler.compression = client->compression;
    receiving->assembler.leaves_masked = client->rules.leaves_masked;
    receiving->assembler.stream = client->rules.stream;
}

struct tws_receiving *
tws_receiving_new(const struct tws_client *client)
{
    struct tws_receiving *receiving = malloc(sizeof(*receiving));
    if (receiving != NULL) {
        begin(receiving, client);
    }
    return receiving;
}

static void
release(struct tws_receiving *receiving)
{
    tws_assembler_release(&receiving->assembler);
    tws_buffer_release(&receiving->unread);
}

void
tws_receiving_free(struct tws_receiving *receiving)
{
    if (receiving != NULL) {
        release(receiving);
        free(receiving);
    }
}

void
tws_receiving_lend(struct tws_worker *worker, struct tws_client *client)
{
    if (client->receiving == NULL) {
        client->receiving = worker->receiving;
        begin(client->receiving, client);
    }
}

static bool
is_at_rest(const struct tws_receiving *receiving)
{
    return tws_frame_reader_is_at_rest(&receiving->reader)
           && tws_assembler_is_at_rest(&receiving->assembler)
           && tws_buffer_length(&receiving->unread) == 0;
}

bool
tws_receiving_take_back(struct tws_worker *worker, struct tws_client *client)
{
    struct tws_receiving *receiving = client->receiving;
    bool lent = receiving == worker->receiving;
    if (is_at_rest(receiving)) {
        client->rules.stream = receiving->assembler.stream;
        client->receiving = NULL;
        tws_buffer_release(&receiving->unread);
        if (TWS_UNLIKELY(!lent)) {
            /* The assembler holds nothing, and what it borrows goes on. */
            free(receiving);
        }
        return true;
    }
    if (lent) {
        struct tws_receiving *another = malloc(sizeof(*another));
        if (another == NULL) {
            return false;
        }
        worker->receiving = another;
    }
    return true;
}

void
tws_receiving_end(struct tws_worker *worker, struct tws_client *client)
{
    struct tws_receiving *receiving = client->receiving;
    client->receiving = NULL;
    if (receiving == worker->receiving) {
        release(receiving);
    }
    else {
        tws_receiving_free(receiving);
    }
}
