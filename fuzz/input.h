/* What the fuzzers share: a check that ends the run, and the input read as a
 * stream of commands. libFuzzer hands out memory that ends where the input
 * does, so that a look behind it is found without a copy. */
#ifndef TWS_FUZZ_INPUT_H
#define TWS_FUZZ_INPUT_H

#include "protocol/buffer.h"

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Says what did not hold, and ends. */
#define require(condition)                                                    \
    (TWS_LIKELY(condition) ? (void)0                                          \
                           : require_failed(__FILE__, __LINE__, #condition))

static inline void
require_failed(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, condition);
    abort();
}

/* What is left of it. */
struct input {
    const uint8_t *data;
    size_t length;
};

/* The next byte; 0 at the end. */
static inline uint8_t
input_byte(struct input *input)
{
    if (input->length == 0) {
        return 0;
    }
    input->length--;
    return *input->data++;
}

/* The next bytes, as many as there are. */
static inline struct tws_span
input_take(struct input *input, size_t length)
{
    if (length > input->length) {
        length = input->length;
    }
    struct tws_span span = {.data = (const char *)input->data,
                            .length = length};
    input->data += length;
    input->length -= length;
    return span;
}

/* All that is left. */
static inline struct tws_span
input_rest(struct input *input)
{
    return input_take(input, input->length);
}

/* The bytes up to the next `end`, which is taken, too. */
static inline struct tws_span
input_part(struct input *input, uint8_t end)
{
    const uint8_t *found =
        input->length > 0 ? memchr(input->data, end, input->length) : NULL;
    struct tws_span part = input_take(
        input, found == NULL ? input->length : (size_t)(found - input->data));
    (void)input_take(input, 1);
    return part;
}

static inline bool
is_inside(struct tws_span part, struct tws_span whole)
{
    return part.length == 0
           || (part.data >= whole.data
               && part.data + part.length <= whole.data + whole.length);
}

/* A copy that ends where its memory does, without an allocation. There is one
 * at a time; when it is ended nobody may look at it. */
enum { EXACT_MAX = 1 << 20 };

static uint8_t exact_memory[EXACT_MAX];

/* Only room for one. */
static inline uint8_t *
exact_room(size_t length)
{
    require(length <= EXACT_MAX);
    uint8_t *room = exact_memory + EXACT_MAX - length;
    ASAN_UNPOISON_MEMORY_REGION(room, length);
    return room;
}

static inline uint8_t *
exact_begin(const void *data, size_t length)
{
    uint8_t *copy = exact_room(length);
    if (length > 0) {
        memcpy(copy, data, length);
    }
    return copy;
}

static inline void
exact_end(const uint8_t *copy)
{
    size_t length = (size_t)(exact_memory + EXACT_MAX - copy);
    ASAN_POISON_MEMORY_REGION(copy, length);
}

/* Notes down what a reader has made of its input, to be compared. */
static inline void
note_down(uint8_t *notes, size_t size, size_t *length, const void *data,
          size_t count)
{
    require(*length + count <= size);
    if (count > 0) {
        memcpy(notes + *length, data, count);
    }
    *length += count;
}

#endif /* TWS_FUZZ_INPUT_H */
