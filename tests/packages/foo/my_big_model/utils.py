import torch


class MyBigModel(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, data, greeting):
        output = self.linear(torch.from_numpy(data))
        return -output if greeting == "goodbye" else output
