package main

import "google.golang.org/protobuf/encoding/protowire"

// Fields of the echo service's messages, by their numbers in proto/echo.proto.
const (
	sequence, payload, responseBytes, responseCount = 1, 2, 3, 4 // of a request
	backend                                         = 3          // of a response
)

const service = "/layerlab.echo.v1.Echo/"
const maxMessageBytes = 16 << 20

// message is one of the two, decoded.
type message struct {
	numbers map[protowire.Number]uint64
	bytes   map[protowire.Number][]byte
}

func (m message) encode() []byte {
	var out []byte
	for number, value := range m.numbers {
		out = protowire.AppendTag(out, number, protowire.VarintType)
		out = protowire.AppendVarint(out, value)
	}
	for number, value := range m.bytes {
		out = protowire.AppendTag(out, number, protowire.BytesType)
		out = protowire.AppendBytes(out, value)
	}
	return out
}

func decode(data []byte) (message, error) {
	m := message{map[protowire.Number]uint64{}, map[protowire.Number][]byte{}}
	for len(data) > 0 {
		number, kind, read := protowire.ConsumeTag(data)
		if read >= 0 {
			data = data[read:]
			switch kind {
			case protowire.VarintType:
				m.numbers[number], read = protowire.ConsumeVarint(data)
			case protowire.BytesType:
				m.bytes[number], read = protowire.ConsumeBytes(data)
			default:
				read = protowire.ConsumeFieldValue(number, kind, data)
			}
		}
		if read < 0 {
			return m, protowire.ParseError(read)
		}
		data = data[read:]
	}
	return m, nil
}

// raw passes messages as they are, so no generated code is needed.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }

func (raw) Unmarshal(data []byte, value any) error {
	*value.(*[]byte) = append([]byte(nil), data...)
	return nil
}
