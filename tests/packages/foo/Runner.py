from my_big_model.utils import MyBigModel
from algorithms.BaseRunner import BaseRunner
from algorithms.io_schemas import MyDataSchema, MyOutputSchema
import numpy as np
import torch
class Runner(BaseRunner):
    """
    The runner class for the foo algorithm.
    """

    def load_assets(self):
        """
        The assets to load for the foo algorithm.
        """
        some_model = MyBigModel()
        self.log_message("Loading the Foo assets.")
        some_big_state_dict = self.fetch_asset("files/some_heavy_model.pt")
        some_big_state_dict = torch.load(some_big_state_dict)
        some_model.load_state_dict(some_big_state_dict)
        self.my_big_model = some_model


    def preprocess(self, input_data: dict, args: dict = {}) -> np.ndarray:
        """Preprocess the request data before feeding into model for inference.

        Parameters
        ----------
        input_data : ImageSchema
            The input data.
        args : dict, optional
            The arguments, by default None

        Returns
        -------
        tuple
            The preprocessed data.
        """
        self.log_message("Preprocessing the Foo input data.")
        my_data = self.fetch_data(input_data["input_dataset_ids"], MyDataSchema)
        input_data = np.array(my_data[0]["data"])
        return input_data

    def inference(self, data: np.ndarray,  args: dict = {}) -> torch.tensor:
        """Run the inference on the preprocessed data.

        Parameters
        ----------
        data : np.ndarray
            The preprocessed data.
        args : dict, optional
            The arguments, by default None


        Returns
        -------
        torch.tensor
            The inference output.
        """

        self.log_message("Running the Foo inference.")

        some_user_defined_args = args.get("some_user_defined_args", None)
        if some_user_defined_args is not None:
            self.log_message(f"User defined args: {some_user_defined_args}")
        output = self.my_big_model(data, some_user_defined_args)
        self.set_progress(0.5)
        self.log_message("The Foo inference is done.")
        return output

    def postprocess(self, inference_output: torch.tensor, args: dict = {}) -> list[str]:
        """Postprocess the inference output.

        Parameters
        ----------
        inference_output : dict
            The inference output.
        args : dict, optional
            The arguments, by default None

        Returns
        -------
        list[str]
            The output dataset ids.
        """

        self.log_message("Postprocessing the Foo output.")
        output = inference_output.detach().numpy()
        output = [
            {
                "output": output
            }
        ]
        output_dataset_ids = self.post_data(output, MyOutputSchema)
        return output_dataset_ids
