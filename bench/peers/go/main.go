// Echoes with gorilla/websocket or nbio; prints the port.
//
// usage: echo (gorilla|nbio) [--tls CERTFILE KEYFILE]
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"

	"github.com/gorilla/websocket"
	"github.com/lesismal/nbio/logging"
	nb "github.com/lesismal/nbio/nbhttp"
	nbws "github.com/lesismal/nbio/nbhttp/websocket"
)

func listen(network, address string) (net.Listener, error) {
	listener, err := net.Listen(network, address)
	if err == nil {
		fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	}
	return listener, err
}

func serveGorilla(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	client, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer client.Close()
	for {
		kind, message, err := client.ReadMessage()
		if err != nil || client.WriteMessage(kind, message) != nil {
			return
		}
	}
}

func runGorilla(files []string) {
	listener, err := listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	handler := http.HandlerFunc(serveGorilla)
	if len(files) == 3 {
		log.Fatal(http.ServeTLS(listener, handler, files[1], files[2]))
	}
	log.Fatal(http.Serve(listener, handler))
}

func runNbio() {
	logging.SetLevel(logging.LevelError)
	upgrader := nbws.NewUpgrader()
	upgrader.CheckOrigin = func(*http.Request) bool { return true }
	upgrader.OnMessage(func(client *nbws.Conn, kind nbws.MessageType, data []byte) {
		client.WriteMessage(kind, data)
	})
	mux := &http.ServeMux{}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		upgrader.Upgrade(w, r, nil)
	})
	engine := nb.NewEngine(nb.Config{
		Network: "tcp", Addrs: []string{"127.0.0.1:0"}, Handler: mux,
		MaxLoad: 1000000, ReadLimit: 1 << 30, NPoller: 1,
		Listen: listen,
	})
	if err := engine.Start(); err != nil {
		log.Fatal(err)
	}
	select {}
}

func main() {
	runtime.GOMAXPROCS(1)
	if os.Args[1] == "nbio" {
		runNbio()
	}
	runGorilla(os.Args[2:])
}
