// Makes a session, waits until it runs, hears what happens to it, and deletes it.
//
// Usage: STREAMSPACE_TOKEN=… go run . ADDRESS IMAGE
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	apiv1 "streamspace/api/v1"
)

func run(address, image string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+os.Getenv("STREAMSPACE_TOKEN"))
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	events, err := apiv1.NewWatchServiceClient(connection).Watch(ctx, &apiv1.WatchRequest{})
	if err != nil {
		return err
	}
	// From the first message on nothing is missed.
	if _, err := events.Recv(); err != nil {
		return err
	}

	sessions := apiv1.NewSessionServiceClient(connection)
	key := fmt.Sprintf("example-%d", time.Now().UnixNano())
	session, err := sessions.Create(ctx, &apiv1.CreateSessionRequest{
		Spec: &apiv1.SessionSpec{
			BaseImage: &image,
			Ports:     []*apiv1.Port{{Name: "web", ContainerPort: 80}},
		},
		IdempotencyKey: &key,
		Wait:           durationpb.New(2 * time.Minute),
	})
	if err != nil {
		return err
	}
	if session.Phase != apiv1.SessionPhase_SESSION_PHASE_RUNNING {
		return fmt.Errorf("%s is %s", session.Id, session.Phase)
	}
	fmt.Printf("%s runs at http://%s%s\n", session.Id, address, session.Url)

	if _, err := sessions.Delete(ctx, &apiv1.DeleteSessionRequest{Id: session.Id}); err != nil {
		return err
	}
	for {
		message, err := events.Recv()
		if err != nil {
			return err
		}
		event := message.GetEvent()
		if event.GetSessionId() != session.Id {
			continue
		}
		fmt.Println(event.Time.AsTime().Format(time.RFC3339Nano), event.Type, event.Reason)
		if event.Type == "session.deleted" {
			return nil
		}
	}
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: example ADDRESS IMAGE")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}
