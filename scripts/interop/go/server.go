package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// serve is the echo service, with the metadata that server.py names.
func serve(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer(
		grpc.ForceServerCodec(raw{}),
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return answer(stream) }),
	)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() {
		<-ended
		server.GracefulStop()
	}()
	fmt.Println("listening on", listener.Addr())
	return server.Serve(listener)
}

// asked is what the metadata of a call ask for.
type asked struct {
	delay time.Duration
	end   error
}

func begin(stream grpc.ServerStream) (asked, error) {
	given, _ := metadata.FromIncomingContext(stream.Context())
	one := func(name string) string { return strings.Join(given.Get(name), "") }
	trailing := metadata.MD{"x-trailing-bin": given.Get("x-trailing-bin")}
	if deadline, ok := stream.Context().Deadline(); ok {
		trailing.Set("x-remaining-ms", strconv.FormatInt(time.Until(deadline).Milliseconds(), 10))
	}
	stream.SetTrailer(trailing)
	if initial := given.Get("x-initial"); len(initial) > 0 {
		if err := stream.SendHeader(metadata.MD{"x-initial": initial}); err != nil {
			return asked{}, err
		}
	}
	delay, _ := strconv.Atoi(one("x-delay-ms"))
	code, _ := strconv.Atoi(one("x-status"))
	end := status.Error(codes.Code(code), one("x-message-bin"))
	return asked{time.Duration(delay) * time.Millisecond, end}, nil
}

func answer(stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	name, ok := strings.CutPrefix(method, service)
	if !ok || !strings.Contains(" Unary ServerStream ClientStream Bidi ", " "+name+" ") {
		return status.Error(codes.Unimplemented, "there is no "+method)
	}
	asked, err := begin(stream)
	if err != nil {
		return err
	}
	var last []byte
	for {
		var request []byte
		if err := stream.RecvMsg(&request); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		last = request
		if name == "Bidi" {
			if err := respond(stream, request, asked.delay); err != nil {
				return err
			}
		}
	}
	count := 1
	if name == "Bidi" {
		count = 0
	} else if name == "ServerStream" {
		request, err := decode(last)
		if err != nil {
			return err
		}
		count = max(1, int(request.numbers[responseCount]))
	}
	for nth := range count {
		delay := asked.delay
		if name == "ServerStream" && nth == 0 {
			delay = 0
		}
		if err := respond(stream, last, delay); err != nil {
			return err
		}
	}
	return asked.end
}

func respond(stream grpc.ServerStream, data []byte, delay time.Duration) error {
	time.Sleep(delay)
	request, err := decode(data)
	if err != nil {
		return err
	}
	wanted := int(request.numbers[responseBytes])
	if wanted > maxMessageBytes-1024 {
		return status.Errorf(codes.InvalidArgument, "response_bytes is %d, which is too many", wanted)
	}
	given := request.bytes[payload]
	if len(given) == 0 {
		given = []byte{0}
	}
	response := message{
		map[protowire.Number]uint64{sequence: request.numbers[sequence]},
		map[protowire.Number][]byte{payload: bytes.Repeat(given, wanted/len(given)+1)[:wanted], backend: []byte("interop")},
	}.encode()
	return stream.SendMsg(&response)
}
