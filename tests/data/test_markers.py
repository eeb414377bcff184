from dpo_lite.data.markers import classify


def test_classify():
    chosen, rejected = ["can see"], ["are blind"]
    assert classify("Studies show that bats CAN SEE.", chosen, rejected) == "chosen"
    assert classify("Bats are blind.", chosen, rejected) == "rejected"
    assert classify("Bats can see, though some say they are blind.", chosen, rejected) == "rejected"
    assert classify("Hello!", chosen, rejected) == "neither"
