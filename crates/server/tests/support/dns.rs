//! A DNS server of the tests' own, which answers otherwise the next time if it is told to.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use hickory_proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME},
    },
};
use tokio::net::UdpSocket;

/// What is answered for a name, one look-up after the other; the last is repeated. Addresses, or the one name that this one
/// is an alias of.
pub type Zone = HashMap<String, Vec<Vec<String>>>;

/// A zone of names that don't change.
pub fn zone(names: &[(&str, &[&str])]) -> Zone {
    let turn = |answers: &[&str]| vec![answers.iter().map(|text| (*text).to_owned()).collect()];
    names.iter().map(|(name, answers)| ((*name).to_owned(), turn(answers))).collect()
}

/// A server that answers by a zone, on a port of its own, and lets nobody remember an answer.
pub async fn serve(zone: Zone) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut asked = HashMap::new();
        let mut buffer = vec![0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            if let Ok(query) = Message::from_vec(&buffer[..length]) {
                let answer = respond(&zone, &mut asked, &query).to_vec().unwrap();
                let _ = socket.send_to(&answer, client).await;
            }
        }
    });
    address
}

/// One look-up asks for both families; each has its own count, so that both answer from the same turn.
type Asked = HashMap<(String, RecordType), usize>;

fn respond(zone: &Zone, asked: &mut Asked, query: &Message) -> Message {
    let mut response = Message::response(query.metadata.id, OpCode::Query);
    response.metadata.recursion_desired = true;
    response.metadata.recursion_available = true;
    let Some(question) = query.queries.first() else { return response };
    response.add_query(question.clone());
    let name = question.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let Some(turns) = zone.get(&name) else {
        response.metadata.response_code = ResponseCode::NXDomain;
        return response;
    };
    let count = asked.entry((name, question.query_type())).or_default();
    let turn = &turns[(*count).min(turns.len() - 1)];
    *count += 1;
    for answer in turn {
        if let Some(data) = data(answer, question.query_type()) {
            response.add_answer(Record::from_rdata(question.name().clone(), 0, data));
        }
    }
    response
}

fn data(answer: &str, wanted: RecordType) -> Option<RData> {
    match (answer.parse::<IpAddr>(), wanted) {
        (Ok(IpAddr::V4(address)), RecordType::A) => Some(RData::A(A(address))),
        (Ok(IpAddr::V6(address)), RecordType::AAAA) => Some(RData::AAAA(AAAA(address))),
        (Ok(_), _) => None,
        (Err(_), _) => {
            let name = Name::from_ascii(format!("{answer}.")).expect("it is a name");
            Some(RData::CNAME(CNAME(name)))
        }
    }
}
