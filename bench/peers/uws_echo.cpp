// Echoes with uWebSockets, as its own examples do; prints its port.
//
// usage: uws_echo [--fanout] [--deflate] [--tls CERTFILE KEYFILE]
#include "App.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

struct Nothing {};

struct Options {
    bool fanout = false;
    bool deflate = false;
    const char *certfile = nullptr;
    const char *keyfile = nullptr;
};

template <bool SSL>
static void serve(uWS::TemplatedApp<SSL> &app, const Options &options) {
    bool fanout = options.fanout;
    auto compression = options.deflate
        ? uWS::CompressOptions(uWS::DEDICATED_COMPRESSOR_32KB
                               | uWS::DEDICATED_DECOMPRESSOR_4KB)
        : uWS::DISABLED;
    app.template ws<Nothing>("/*", {
        .compression = compression,
        .maxPayloadLength = 1u << 30,
        .idleTimeout = 120,
        .maxBackpressure = 1u << 30,
        .closeOnBackpressureLimit = false,
        .open = [fanout](auto *ws) {
            if (fanout) {
                ws->subscribe("all");
            }
        },
        .message = [fanout, &app, &options](auto *ws,
                                            std::string_view message,
                                            uWS::OpCode opcode) {
            if (fanout) {
                app.publish("all", message, opcode);
            }
            else {
                ws->send(message, opcode, options.deflate);
            }
        },
    });
    app.listen("127.0.0.1", 0, [](auto *socket) {
        if (socket == nullptr) {
            std::perror("listen");
            std::exit(1);
        }
        std::printf("%d\n",
                    us_socket_local_port(SSL, (us_socket_t *)socket));
        std::fflush(stdout);
    });
    app.run();
}

int main(int argc, char **argv) {
    Options options;
    for (int i = 1; i < argc; i++) {
        if (std::strcmp(argv[i], "--fanout") == 0) {
            options.fanout = true;
        }
        else if (std::strcmp(argv[i], "--deflate") == 0) {
            options.deflate = true;
        }
        else if (std::strcmp(argv[i], "--tls") == 0 && i + 2 < argc) {
            options.certfile = argv[++i];
            options.keyfile = argv[++i];
        }
    }
    if (options.certfile != nullptr) {
        uWS::SSLApp app({.key_file_name = options.keyfile,
                         .cert_file_name = options.certfile});
        serve(app, options);
    }
    else {
        uWS::App app;
        serve(app, options);
    }
}
