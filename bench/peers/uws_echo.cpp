// Echoes with uWebSockets, as its own examples do; prints its port.
//
// usage: uws_echo [echo|fanout]
#include "App.h"

#include <cstdio>
#include <cstring>

struct Nothing {};

int main(int argc, char **argv) {
    bool fanout = argc > 1 && std::strcmp(argv[1], "fanout") == 0;
    uWS::App app;
    app.ws<Nothing>("/*", {
        .compression = uWS::DISABLED,
        .maxPayloadLength = 1u << 30,
        .idleTimeout = 120,
        .maxBackpressure = 1u << 30,
        .closeOnBackpressureLimit = false,
        .open = [fanout](auto *ws) {
            if (fanout) {
                ws->subscribe("all");
            }
        },
        .message = [fanout, &app](auto *ws, std::string_view message,
                                  uWS::OpCode opcode) {
            if (fanout) {
                app.publish("all", message, opcode);
            }
            else {
                ws->send(message, opcode);
            }
        },
    });
    app.listen("127.0.0.1", 0, [](auto *socket) {
        if (socket == nullptr) {
            std::perror("listen");
            std::exit(1);
        }
        std::printf("%d\n", us_socket_local_port(0, (us_socket_t *)socket));
        std::fflush(stdout);
    });
    app.run();
}
