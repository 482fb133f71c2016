//! Echoes with tokio-tungstenite on one thread; prints the port.

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

async fn echo(stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let config = WebSocketConfig {
        max_message_size: None,
        max_frame_size: None,
        ..Default::default()
    };
    let client = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await;
    let Ok(mut client) = client else { return };
    while let Some(Ok(message)) = client.next().await {
        if (message.is_text() || message.is_binary()) && client.send(message).await.is_err() {
            return;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    println!("{}", listener.local_addr().expect("address").port());
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(echo(stream));
            }
        })
        .await;
}
