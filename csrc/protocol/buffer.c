#include "protocol/buffer.h"

#include <assert.h>
#include <stdlib.h>

enum { SMALLEST = 256 };

enum tws_status
tws_buffer_reserve(struct tws_buffer *buffer, size_t extra, uint8_t **room)
{
    size_t length = tws_buffer_length(buffer);
    if (extra > SIZE_MAX / 2 - length) {
        return TWS_NOMEM;
    }
    if (buffer->capacity - buffer->end < extra) {
        size_t needed = length + extra;
        if (buffer->capacity >= needed && buffer->start >= length) {
            /* Room at the front: moving is cheaper than growing, and as what
             * moves was consumed before, it stays linear over all. */
            memcpy(buffer->memory, tws_buffer_data(buffer), length);
        }
        else {
            /* Doubled even where the room would do after a move: the next
             * move is then paid for by what is consumed until it comes. */
            size_t capacity =
                buffer->capacity == 0 ? SMALLEST : buffer->capacity * 2;
            while (capacity < needed) {
                capacity *= 2;
            }
            uint8_t *memory = NULL;
            if (capacity <= PTRDIFF_MAX) {
                memory = malloc(capacity);
            }
            if (memory == NULL) {
                return TWS_NOMEM;
            }
            if (length > 0) {
                memcpy(memory, tws_buffer_data(buffer), length);
            }
            free(buffer->memory);
            buffer->memory = memory;
            buffer->capacity = capacity;
        }
        buffer->start = 0;
        buffer->end = length;
    }
    /* No memory yet and none asked for: an offset from NULL is undefined. */
    *room = buffer->memory == NULL ? NULL : buffer->memory + buffer->end;
    return TWS_OK;
}

void
tws_buffer_commit(struct tws_buffer *buffer, size_t length)
{
    assert(length <= buffer->capacity - buffer->end);
    buffer->end += length;
}

enum tws_status
tws_buffer_append(struct tws_buffer *buffer, const void *data, size_t length)
{
    if (length == 0) {
        return TWS_OK;
    }
    uint8_t *room;
    enum tws_status status = tws_buffer_reserve(buffer, length, &room);
    if (status != TWS_OK) {
        return status;
    }
    memcpy(room, data, length);
    buffer->end += length;
    return TWS_OK;
}

void
tws_buffer_consume(struct tws_buffer *buffer, size_t length)
{
    assert(length <= tws_buffer_length(buffer));
    buffer->start += length;
    if (buffer->start == buffer->end) {
        buffer->start = buffer->end = 0;
    }
}

void
tws_buffer_withdraw(struct tws_buffer *buffer, size_t length)
{
    assert(length <= tws_buffer_length(buffer));
    buffer->end -= length;
    if (buffer->start == buffer->end) {
        buffer->start = buffer->end = 0;
    }
}

void
tws_buffer_release(struct tws_buffer *buffer)
{
    free(buffer->memory);
    *buffer = TWS_BUFFER_EMPTY;
}
