/* Deflates and inflates messages as WebSocket extensions do, with settings
 * from standard input, and prints what each took as one line of JSON. Only
 * zlib, nothing of twspy. See bench/README.md.
 *
 * usage: deflate FILE, which has each message behind its length in 4 bytes,
 * with lines of "window_bits mem_level level takeover connections". */
#include <endian.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zlib.h>

enum {
    TAIL = 4,       /* bytes that the extensions leave out */
    PASS = 4 << 20, /* bytes that are deflated at least */
    CONNECTIONS_MAX = 4096,
};

struct message {
    uint8_t *data;
    size_t length;
    uint8_t *deflated;
    size_t deflated_length;
};

struct corpus {
    struct message *messages;
    size_t count;
    size_t bytes;
    size_t longest;
};

struct setting {
    int window_bits;
    int mem_level;
    int level;
    int takeover;
    int connections;
};

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

static void *
allocate(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL) {
        die("malloc");
    }
    return memory;
}

/* More than zlib's bound, which holds for its default settings only. */
static size_t
deflated_room(size_t length)
{
    return length + length / 8 + 256;
}

static struct corpus
read_corpus(const char *name)
{
    struct corpus corpus = {0};
    uint32_t length;
    FILE *file = fopen(name, "rb");
    if (file == NULL) {
        die(name);
    }
    while (fread(&length, sizeof(length), 1, file) == 1) {
        struct message *message;
        size_t size = (corpus.count + 1) * sizeof(*message);
        corpus.messages = realloc(corpus.messages, size);
        if (corpus.messages == NULL) {
            die("realloc");
        }
        message = &corpus.messages[corpus.count++];
        message->length = le32toh(length);
        message->data = allocate(message->length);
        message->deflated = allocate(deflated_room(message->length));
        if (fread(message->data, 1, message->length, file)
            != message->length) {
            die(name);
        }
        corpus.bytes += message->length;
        if (message->length > corpus.longest) {
            corpus.longest = message->length;
        }
    }
    (void)fclose(file);
    if (corpus.count == 0) {
        (void)fprintf(stderr, "%s is empty\n", name);
        exit(1);
    }
    return corpus;
}

static double
cpu_time(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0) {
        die("clock_gettime");
    }
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* What one look at the clock takes: a message of 200 bytes is not much more.
 */
static double
clock_cost(void)
{
    enum { LOOKS = 20000 };
    double begin = cpu_time();
    for (int i = 0; i < LOOKS; i++) {
        (void)cpu_time();
    }
    return (cpu_time() - begin) / LOOKS;
}

/* What malloc() has given out, small pieces and mapped ones. */
static size_t
allocated(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void
deflate_message(z_stream *stream, struct message *message)
{
    stream->next_in = message->data;
    stream->avail_in = (uInt)message->length;
    stream->next_out = message->deflated;
    stream->avail_out = (uInt)deflated_room(message->length);
    if (deflate(stream, Z_SYNC_FLUSH) != Z_OK || stream->avail_out == 0) {
        die("deflate");
    }
    message->deflated_length =
        (size_t)(stream->next_out - message->deflated) - TAIL;
}

static void
inflate_message(z_stream *stream, const struct message *message, uint8_t *room)
{
    stream->next_in = message->deflated;
    stream->avail_in = (uInt)message->deflated_length + TAIL;
    stream->next_out = room;
    stream->avail_out = (uInt)message->length + 64;
    if (inflate(stream, Z_SYNC_FLUSH) != Z_OK || stream->avail_in != 0
        || (size_t)(stream->next_out - room) != message->length
        || memcmp(room, message->data, message->length) != 0) {
        die("inflate");
    }
}

struct totals {
    double deflating;
    double inflating;
    uint64_t deflated;
    uint64_t messages;
};

/* Message i on every connection, then message i + 1: each connection sees all
 * of the corpus, and none finds its context in the cache where there are
 * many. */
static void
run_pass(const struct setting *setting, struct corpus *corpus,
         z_stream *deflaters, z_stream *inflaters, uint8_t *room,
         struct totals *totals, double clock)
{
    for (size_t i = 0; i < corpus->count; i++) {
        struct message *message = &corpus->messages[i];
        for (int c = 0; c < setting->connections; c++) {
            double begin = cpu_time();
            double middle;
            if (!setting->takeover) {
                (void)deflateReset(&deflaters[c]);
            }
            deflate_message(&deflaters[c], message);
            middle = cpu_time();
            if (!setting->takeover) {
                (void)inflateReset(&inflaters[c]);
            }
            inflate_message(&inflaters[c], message, room);
            totals->inflating += cpu_time() - middle - clock;
            totals->deflating += middle - begin - clock;
            totals->deflated += message->deflated_length;
            totals->messages++;
        }
    }
}

static void
run(const struct setting *setting, struct corpus *corpus, uint8_t *room)
{
    size_t size = (size_t)setting->connections * sizeof(z_stream);
    z_stream *deflaters = allocate(size);
    z_stream *inflaters = allocate(size);
    struct totals totals = {0};
    size_t deflaters_size;
    size_t inflaters_size;
    size_t before = allocated();
    /* zlib would refuse 8; see tws_deflater_new() */
    int bits = setting->window_bits < 9 ? 9 : setting->window_bits;
    double clock = clock_cost();
    memset(deflaters, 0, size);
    memset(inflaters, 0, size);
    for (int c = 0; c < setting->connections; c++) {
        if (deflateInit2(&deflaters[c], setting->level, Z_DEFLATED, -bits,
                         setting->mem_level, Z_DEFAULT_STRATEGY)
            != Z_OK) {
            die("deflateInit2");
        }
    }
    deflaters_size = allocated() - before;
    for (int c = 0; c < setting->connections; c++) {
        if (inflateInit2(&inflaters[c], -setting->window_bits) != Z_OK) {
            die("inflateInit2");
        }
    }
    run_pass(setting, corpus, deflaters, inflaters, room, &totals,
             clock); /* warm */
    inflaters_size = allocated() - before - deflaters_size;
    totals = (struct totals){0};
    do {
        run_pass(setting, corpus, deflaters, inflaters, room, &totals, clock);
    } while (totals.messages * (corpus->bytes / corpus->count) < PASS);
    (void)printf("{\"deflated\": %.6f, \"deflating\": %.9f, "
                 "\"inflating\": %.9f, \"deflater\": %zu, "
                 "\"inflater\": %zu}\n",
                 (double)totals.deflated / (double)totals.messages,
                 totals.deflating / (double)totals.messages,
                 totals.inflating / (double)totals.messages,
                 deflaters_size / (size_t)setting->connections,
                 inflaters_size / (size_t)setting->connections);
    for (int c = 0; c < setting->connections; c++) {
        (void)deflateEnd(&deflaters[c]);
        (void)inflateEnd(&inflaters[c]);
    }
    free(deflaters);
    free(inflaters);
}

int
main(int count, char **words)
{
    struct setting setting;
    struct corpus corpus;
    uint8_t *room;
    if (count != 2) {
        (void)fprintf(stderr, "usage: deflate FILE\n");
        return 2;
    }
    corpus = read_corpus(words[1]);
    room = allocate(corpus.longest + 64);
    while (scanf("%d %d %d %d %d", &setting.window_bits, &setting.mem_level,
                 &setting.level, &setting.takeover, &setting.connections)
           == 5) {
        if (setting.connections < 1 || setting.connections > CONNECTIONS_MAX) {
            (void)fprintf(stderr, "connections: 1 to %d\n", CONNECTIONS_MAX);
            return 2;
        }
        run(&setting, &corpus, room);
        (void)fflush(stdout);
    }
    return 0;
}
