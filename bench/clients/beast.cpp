// Round trips of Boost.Beast's blocking client: sends, waits for the echo,
// sends again. Prints one line of JSON. Every echo is compared.
//
// usage: beast PORT SIZE SECONDS [CERTFILE]
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/ssl.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/websocket/ssl.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>

namespace asio = boost::asio;
namespace websocket = boost::beast::websocket;
using tcp = asio::ip::tcp;
using Clock = std::chrono::steady_clock;

constexpr double warm_up = 0.2; // seconds that do not count

static double passed_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

template <class Stream>
static int repeat(Stream &stream, const std::string &payload,
                  double seconds) {
    boost::beast::flat_buffer echo;
    unsigned long count = 0;
    double passed = 0;
    std::clock_t cpu = 0;
    stream.set_option(websocket::stream_base::decorator([](auto &) {}));
    stream.read_message_max(0);
    stream.binary(true);
    stream.auto_fragment(false);
    for (double span : {warm_up, seconds}) {
        auto start = Clock::now();
        cpu = std::clock();
        count = 0;
        do {
            for (int i = 0; i < (payload.size() < 50000 ? 10 : 1); i++) {
                stream.write(asio::buffer(payload));
                echo.clear();
                stream.read(echo);
                if (echo.size() != payload.size()
                    || std::memcmp(echo.data().data(), payload.data(),
                                   payload.size()) != 0) {
                    std::fputs("the echo differs\n", stderr);
                    return 1;
                }
                count++;
            }
            passed = passed_since(start);
        } while (passed < span);
    }
    std::printf("{\"messages\": %lu, \"seconds\": %.6f, \"rate\": %.1f, "
                "\"load_cpu\": %.6f}\n",
                count, passed, static_cast<double>(count) / passed,
                static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC);
    stream.close(websocket::close_code::normal);
    return 0;
}

static int run(int argc, char **argv) {
    asio::io_context io;
    tcp::endpoint server(asio::ip::make_address("127.0.0.1"),
                         static_cast<unsigned short>(std::atoi(argv[1])));
    std::size_t size = std::strtoul(argv[2], nullptr, 10);
    double seconds = std::atof(argv[3]);
    std::string payload(size, '\0');
    for (std::size_t i = 0; i < size; i++) {
        payload[i] = static_cast<char>(i);
    }
    if (argc == 4) {
        websocket::stream<tcp::socket> stream(io);
        stream.next_layer().connect(server);
        stream.next_layer().set_option(tcp::no_delay(true));
        stream.handshake("127.0.0.1", "/");
        return repeat(stream, payload, seconds);
    }
    asio::ssl::context context(asio::ssl::context::tls_client);
    context.load_verify_file(argv[4]);
    context.set_verify_mode(asio::ssl::verify_peer);
    websocket::stream<boost::beast::ssl_stream<tcp::socket>> stream(io,
                                                                   context);
    stream.next_layer().next_layer().connect(server);
    stream.next_layer().next_layer().set_option(tcp::no_delay(true));
    stream.next_layer().handshake(asio::ssl::stream_base::client);
    stream.handshake("localhost", "/");
    return repeat(stream, payload, seconds);
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 5) {
        std::fputs("usage: beast PORT SIZE SECONDS [CERTFILE]\n", stderr);
        return 2;
    }
    try {
        return run(argc, argv);
    }
    catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
