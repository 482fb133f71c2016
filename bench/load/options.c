#include "load.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONNECTIONS_MAX = 0xffff, /* four digits of a stamp */
    DEPTH_MAX = 0xffff,
    SIZE_MAX_BYTES = 64 * 1024 * 1024,
};

static _Noreturn void
usage(void)
{
    fputs("usage: load --port PORT [--mode echo|fanout|churn|hold]\n"
          "            [--content text|binary|utf8|json] [--size BYTES]\n"
          "            [--connections N] [--depth N] [--rate PER_SECOND]\n"
          "            [--each N] [--seconds S] [--warmup S] [--tls]\n"
          "            [--resume] [--compress] [--pid PID]...\n",
          stderr);
    exit(2);
}

static double
number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least && value <= most)) {
        fprintf(stderr, "got %s, expected a number from %g to %g\n", text,
                least, most);
        usage();
    }
    return value;
}

static unsigned
choice(const char *text, const char *const *names, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(text, names[i]) == 0) {
            return i;
        }
    }
    fprintf(stderr, "got %s, expected one of the words below\n", text);
    usage();
}

static void
take_option(struct plan *plan, int option, const char *text)
{
    static const char *const modes[] = {"echo", "fanout", "churn", "hold"};
    static const char *const contents[] = {"text", "binary", "utf8", "json"};
    switch (option) {
    case 'p':
        plan->address.sin_port = htons((uint16_t)number(text, 1, 0xffff));
        break;
    case 'm':
        plan->mode = (enum mode)choice(text, modes, 4);
        break;
    case 'k':
        plan->content = (enum content)choice(text, contents, 4);
        break;
    case 's':
        plan->size = (size_t)number(text, 0, SIZE_MAX_BYTES);
        break;
    case 'c':
        plan->connections = (unsigned)number(text, 1, CONNECTIONS_MAX);
        break;
    case 'd':
        plan->depth = (unsigned)number(text, 1, DEPTH_MAX);
        break;
    case 'r':
        plan->rate = number(text, 1, 1e9);
        break;
    case 'e':
        plan->each = (unsigned)number(text, 0, 1e6);
        break;
    case 't':
        plan->seconds = number(text, 0, 3600);
        break;
    case 'w':
        plan->warmup = number(text, 0, 3600);
        break;
    case 'P':
        if (plan->process_count == SERVER_PROCESSES) {
            usage();
        }
        plan->processes[plan->process_count++] = (pid_t)number(text, 1, 1e9);
        break;
    case 'T':
        plan->tls = true;
        break;
    case 'R':
        plan->resume = true;
        break;
    case 'z':
        plan->compress = true;
        break;
    default:
        usage();
    }
}

void
options_parse(int argc, char **argv, struct plan *plan)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"mode", required_argument, NULL, 'm'},
        {"content", required_argument, NULL, 'k'},
        {"size", required_argument, NULL, 's'},
        {"connections", required_argument, NULL, 'c'},
        {"depth", required_argument, NULL, 'd'},
        {"rate", required_argument, NULL, 'r'},
        {"each", required_argument, NULL, 'e'},
        {"seconds", required_argument, NULL, 't'},
        {"warmup", required_argument, NULL, 'w'},
        {"pid", required_argument, NULL, 'P'},
        {"tls", no_argument, NULL, 'T'},
        {"resume", no_argument, NULL, 'R'},
        {"compress", no_argument, NULL, 'z'},
        {NULL, 0, NULL, 0},
    };
    int option;
    *plan = (struct plan){
        .address = {.sin_family = AF_INET,
                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
        .connections = 1,
        .depth = 1,
        .size = 16,
        .seconds = 1,
        .warmup = 0.2,
    };
    for (;;) {
        option = getopt_long(argc, argv, "", options, NULL);
        if (option == -1) {
            break;
        }
        take_option(plan, option, optarg);
    }
    if (optind != argc || plan->address.sin_port == 0
        || (plan->compress && plan->mode == MODE_FANOUT)) {
        usage();
    }
    if (plan->mode == MODE_FANOUT) {
        plan->depth = 1;
    }
}
